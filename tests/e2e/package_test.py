"""The Python package with the real server: private ones, a remote one, and the scripts that users of
py-code-mode have, after nothing but their import lines was changed."""

import asyncio
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tests" / "lib")]

import harness  # noqa: E402
import processes  # noqa: E402

os.environ["CARREL_BIN"] = str(harness.CARREL)

import carrel  # noqa: E402
import carrel.blocking  # noqa: E402
from carrel.execution import ContainerConfig, ContainerExecutor  # noqa: E402

LEAN = {"preload": []}
PORT_SCAN = '''\
def run(target: str, ports: str = "80,443") -> dict:
    """Scan ports on target."""
    raw = tools.nmap(target=target, flags=f"-p {ports}")
    # Parse and return structured results
    return {"target": target, "raw": raw}
'''
# That of the seed, but for the command, which says how nmap would have been called.
NMAP = """\
name: nmap
type: cli
command: echo
description: Network scanner
args: "{flags} {target}"
timeout: 300
tags: [network, recon]
"""


class PackageCase(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.directory = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory(prefix="carrel-package-")))
        self.directory.chmod(0o755)  # started by root, the server becomes another user
        self.storage = carrel.FileStorage(self.directory / "store")

    def executor(self, **options):
        return ContainerExecutor(ContainerConfig(**{**LEAN, **options}))

    def session(self, **options):
        return carrel.Session(storage=self.storage, executor=self.executor(**options))

    async def eventually(self, condition, message, seconds=20):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                self.fail(f"{message} within {seconds} s")
            await asyncio.sleep(0.02)


class PrivateTest(PackageCase):
    """A server of the program's own."""

    async def test_a_conversation(self):
        async with self.session() as session:
            result = await session.run("import sys\nx = 20\nprint('out')\n"
                                       "print('err', file=sys.stderr)\nx + 1")
            self.assertEqual((result.value, result.stdout, result.stderr, result.error),
                             (21, "out\n", "err\n", None))
            self.assertEqual(result.verdict, "succeeded")
            self.assertGreaterEqual(result.execution_time_ms, 0)
            self.assertEqual((await session.run("x")).value, 20)
            failed = await session.run("print('before')\n1 / 0")
            self.assertFalse(failed.is_ok)
            self.assertIn("ZeroDivisionError", failed.error)
            self.assertEqual((failed.stdout, failed.verdict), ("before\n", "exception"))
            await session.reset()
            self.assertIn("NameError", (await session.run("x")).error)
            self.assertEqual((await session.health()).status, "healthy")

    async def test_the_blocking_twin(self):
        def conversation():
            with carrel.blocking.Session(storage=self.storage, executor=self.executor()) as session:
                session.run("x = 20")
                return session.run("x + 22").value
        loop = asyncio.get_running_loop()
        self.assertEqual(await loop.run_in_executor(None, conversation), 42)

    async def test_sixteen_at_once(self):
        async def conversation(number):
            async with self.session() as session:
                await session.run(f"x = {number}")
                await asyncio.sleep(0)
                return (await session.run("x")).value
        self.assertEqual(await asyncio.gather(*map(conversation, range(16))), list(range(16)))
        self.assertEqual(carrel._server._registry.all(), [])

    async def test_a_cell_has_its_time(self):
        async with self.session(timeout=0.5) as session:
            start = time.monotonic()
            late = await session.run("y = 1\nimport time\ntime.sleep(30)")
            self.assertLess(time.monotonic() - start, 10)
            self.assertEqual(late.error, "Execution timeout after 0.5 seconds")
            self.assertEqual(late.verdict, "time_limit")
            self.assertEqual((await session.run("y")).value, 1)
            longer = await session.run("time.sleep(1); 'slept'\n'done'", timeout=20)
            self.assertEqual(longer.value, "done")

    async def test_cancelling_interrupts_the_cell(self):
        async with self.session() as session:
            await session.run("beats = 0")
            running = asyncio.create_task(session.run(
                "import time\nwhile True:\n    beats += 1\n    time.sleep(0.01)", timeout=60))
            await asyncio.sleep(0.5)
            running.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await running
            # The next cell gets its turn long before the other's time is over, and the state stays.
            start = time.monotonic()
            beats = (await session.run("beats")).value
            self.assertLess(time.monotonic() - start, 10)
            self.assertGreater(beats, 0)
            self.assertEqual((await session.run("beats")).value, beats)

    async def test_memory_is_limited(self):
        async with self.session(memory_limit="64m") as session:
            result = await session.run("x = bytearray(200 << 20)")
            self.assertFalse(result.is_ok)
            self.assertEqual(result.verdict, "memory_limit")
            self.assertEqual((await session.run("1 + 1")).value, 2)
        async with self.session(memory_limit="400m") as session:
            self.assertTrue((await session.run("x = bytearray(200 << 20)")).is_ok)

    async def test_the_processor_is_limited(self):
        doctor = subprocess.run([harness.CARREL, "doctor"], capture_output=True, text=True)
        if "cpu limit            enforced" not in doctor.stdout:
            self.skipTest("this host has no control group for the processor")
        async with self.session(timeout=60, cpu_quota=20000) as session:
            result = await session.run(
                "import time\nwall, used = time.perf_counter(), time.process_time()\n"
                "while time.process_time() - used < 0.5: pass\n"
                "(time.perf_counter() - wall) / (time.process_time() - used)")
        self.assertIsNone(result.error)
        self.assertGreater(result.value, 3.5)  # a fifth of a core

    async def test_there_is_no_network(self):
        with harness.socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            with self.assertWarns(UserWarning):
                session = self.session(network_disabled=False)
            async with session:
                result = await session.run(
                    f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)")
                self.assertRegex(result.error, "OSError|ConnectionRefusedError|PermissionError")

    async def test_the_session_cannot_see_the_servers_secrets(self):
        executor = self.executor(environment={"API_KEY": "hunter2"})
        async with carrel.Session(storage=self.storage, executor=executor) as session:
            seen = await session.run("import os, pathlib\nrepr(dict(os.environ)) + ''.join("
                                     "p.read_bytes().decode('latin-1') for p in "
                                     "pathlib.Path('/proc').glob('[0-9]*/environ'))")
            self.assertIsNone(seen.error)
            for secret in ("hunter2", session._lease.token, str(self.directory)):
                self.assertNotIn(secret, seen.value)

    async def test_a_server_that_is_killed_in_the_middle(self):
        session = self.session()
        await session.start()
        running = asyncio.create_task(session.run("import time; time.sleep(30)"))
        await asyncio.sleep(0.3)
        os.kill(session._lease._server._process.pid, signal.SIGKILL)
        with self.assertRaisesRegex(carrel.ConnectionFailed, "ended with signal 9"):
            await running
        with self.assertRaisesRegex(carrel.ConnectionFailed, "ended with signal 9"):
            await session.run("1")
        await session.close()
        # The next one has a server again.
        async with self.session() as session:
            self.assertEqual((await session.run("1")).value, 1)

    async def test_nothing_is_left_behind(self):
        """At a regular end, and when the program is killed while a cell runs."""
        script = textwrap.dedent(f"""
            import asyncio, os, signal, sys
            from carrel import Session, FileStorage
            from carrel.execution import ContainerExecutor, ContainerConfig

            async def main():
                executor = ContainerExecutor(ContainerConfig(preload=[]))
                async with Session(FileStorage({str(self.directory / 'store')!r}), executor) as s:
                    await s.run("1")
                    print(s._lease._server._process.pid, s._lease._server._scratch.path, flush=True)
                    if sys.argv[1] == "kill":
                        running = asyncio.create_task(s.run("while True: pass"))
                        await asyncio.sleep(0.3)
                        sys.stdin.readline()
                        os.kill(os.getpid(), signal.SIGKILL)

            asyncio.run(main())
        """)
        for how in ("end", "kill"):
            with self.subTest(how):
                process = subprocess.Popen(
                    [sys.executable, "-c", script, how], stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, text=True,
                    env={**os.environ, "PYTHONPATH": str(ROOT / "python")})
                with process:
                    pid, directory = process.stdout.readline().split()
                    family = [int(pid), *processes.descendants(int(pid))]
                    if how == "kill":
                        self.assertGreater(len(family), 2)
                    process.stdin.write("\n")
                await self.eventually(
                    lambda: not processes.are_there(family),
                    f"processes of {family} are left")
                if how == "kill":
                    async with self.session():  # the next one takes away what that one left
                        pass
                self.assertFalse(os.path.exists(directory))

    async def test_why_a_server_does_not_start(self):
        with self.assertRaisesRegex(carrel.ServerStartError, "no-such-isolation"):
            async with self.session(environment={"CARREL_ISOLATION": "no-such-isolation"}):
                pass


class StopAtEofTest(unittest.TestCase):
    """The flag that private servers are started with."""

    def test_it_stops_when_stdin_ends(self):
        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)
            command = [str(harness.CARREL), "serve", "--stop-at-eof", "--listen", "127.0.0.1:0",
                       "--data-dir", f"{directory}/data"]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env={"PATH": "/usr/bin:/bin", "CONTAINER_AUTH_TOKEN": "t"})
            with process:
                events = []
                for line in process.stderr:
                    events.append(json.loads(line)["event"])
                    if events[-1] == "keeper_ready":
                        process.stdin.write("what comes is of no interest\n")
                        process.stdin.flush()
                        time.sleep(0.2)
                        self.assertIsNone(process.poll())
                        process.stdin.close()
                self.assertEqual(process.wait(20), 0)
            self.assertEqual(events[-3:], ["draining", "drained", "stopped"])

    def test_a_file_has_no_end_to_wait_for(self):
        with tempfile.TemporaryFile() as file:
            done = subprocess.run(
                [str(harness.CARREL), "serve", "--stop-at-eof", "--listen", "127.0.0.1:0"],
                stdin=file, capture_output=True, text=True, timeout=60, check=False,
                env={"PATH": "/usr/bin:/bin", "CONTAINER_AUTH_TOKEN": "t"})
        self.assertEqual(done.returncode, 2)
        self.assertIn("--stop-at-eof", done.stderr)


class NamesTest(PackageCase):
    """tools, skills, artifacts and deps, from both sides of the wall."""

    def tool(self, name, text):
        tools = self.directory / "store" / "tools"
        tools.mkdir(parents=True, exist_ok=True)
        (tools / f"{name}.yaml").write_text(text)

    async def test_tools(self):
        self.tool("say", "name: say\ntype: cli\ncommand: echo\ndescription: Say something\n"
                         'args: "{text}"\ntags: [words]\n')
        async with self.session() as session:
            self.assertEqual([t["name"] for t in await session.list_tools()], ["say"])
            self.assertEqual([t["name"] for t in await session.search_tools("say")], ["say"])
            result = await session.run('tools.say(text="hello")')
            self.assertIsNone(result.error)
            self.assertEqual(result.value, "hello\n")

    async def test_skills(self):
        source = 'def run(n: int) -> int:\n    """Twice."""\n    return 2 * n\n'
        async with self.session() as session:
            made = await session.create_skill("double", source, "Doubles a number")
            self.assertEqual((made["name"], made["source"]), ("double", source))
            self.assertEqual((await session.run("skills.double(n=21)")).value, 42)
            self.assertEqual([s["name"] for s in await session.list_workflows()], ["double"])
            self.assertEqual([s["name"] for s in await session.search_skills("doubling numbers")],
                             ["double"])
            with self.assertRaises(ValueError):
                await session.create_skill("not a name", source)
            with self.assertRaises(ValueError):
                await session.create_skill("broken", "def run(:")
        # It outlives the server.
        self.assertEqual((self.directory / "store/skills/double.py").read_text(), source)
        async with self.session() as session:
            self.assertEqual((await session.get_skill("double"))["source"], source)
            self.assertTrue(await session.delete_skill("double"))
            self.assertFalse(await session.delete_skill("double"))
            self.assertIsNone(await session.get_skill("double"))

    async def test_artifacts(self):
        kept = {"t.txt": "grüße", "o.json": {"a": [1, 2.5, None]}, "l.json": [1, "x"],
                "b.bin": bytes(range(256)), "sub/dir.txt": "deep"}
        async with self.session() as session:
            for name, data in kept.items():
                await session.save_artifact(name, data, description="d")
            for name, data in kept.items():
                self.assertEqual(await session.load_artifact(name), data, name)
                inside = await session.run(f"artifacts.load({name!r}) == {data!r}")
                self.assertEqual((inside.error, inside.value), (None, True), name)
            await session.run("artifacts.save('mine.bin', b'\\x00\\xff')")
            self.assertEqual(await session.load_artifact("mine.bin"), b"\x00\xff")
            names = {a["name"] for a in await session.list_artifacts()}
            self.assertEqual(names, {*kept, "mine.bin"})
            await session.delete_artifact("mine.bin")
            with self.assertRaises(carrel.ArtifactNotFoundError):
                await session.load_artifact("mine.bin")
            with self.assertRaises(ValueError):
                await session.save_artifact("../outside", "x")
            odd = {"nan": float("nan"), "inf": float("inf"), "lone": "\ud800"}
            await session.save_artifact("odd.json", odd)
            loaded = await session.load_artifact("odd.json")
            self.assertNotEqual(loaded["nan"], loaded["nan"])
            self.assertEqual((loaded["inf"], loaded["lone"]), (odd["inf"], odd["lone"]))

    async def test_dependencies_can_be_locked(self):
        async with self.session(allow_runtime_deps=False, deps=["six>=1.0,<99"]) as session:
            self.assertEqual(await session.list_deps(), ["six>=1.0,<99"])
            with self.assertRaisesRegex(carrel.RuntimeDepsDisabledError, "disabled"):
                await session.add_dep("numpy")
            result = await session.run("deps.add('numpy')")
            self.assertIn("RuntimeDepsDisabledError", result.error)


class ExampleTest(PackageCase):
    """examples/azure-container-apps, with a server of Carrel's own."""

    EXAMPLE = ROOT / "examples" / "azure-container-apps"

    def copy_of(self, name, changed=None):
        """The example's configs/NAME where the server's user can read it."""
        copy = self.directory / name
        shutil.copytree(self.EXAMPLE / "configs" / name, copy)
        for file, before, after in changed or ():
            text = (copy / file).read_text()
            self.assertIn(before, text)
            (copy / file).write_text(text.replace(before, after))
        return copy

    async def test_its_tools_can_be_read(self):
        with self.assertLogs("carrel.server", "DEBUG") as logs:
            async with self.session(tools_path=self.copy_of("tools")) as session:
                tools = {tool["name"]: tool for tool in await session.list_tools()}
        self.assertEqual([line for line in logs.output if "tool_definition_bad" in line], [])
        self.assertEqual(set(tools), {"curl", "dig", "jq", "nmap", "ping", "whois"})
        for name, recipes in (("curl", {"get", "headers", "post"}), ("dig", {"lookup", "full"}),
                              ("jq", {"query", "raw"}), ("ping", {"host"}), ("whois", {"lookup"})):
            self.assertEqual({c["name"] for c in tools[name]["callables"]}, recipes)
        self.assertEqual(tools["nmap"]["tags"], ["network", "recon"])

    async def test_its_list_of_tools_can_be_read(self):
        file = self.directory / "tools.yaml"
        shutil.copy(self.EXAMPLE / "configs" / "tools.yaml", file)
        with self.assertLogs("carrel.server", "DEBUG") as logs:
            async with self.session(environment={"TOOLS_CONFIG": str(file)}) as session:
                names = {tool["name"] for tool in await session.list_tools()}
        self.assertEqual([line for line in logs.output if "tool_definition_bad" in line], [])
        self.assertEqual(names, {"nmap", "dig"})

    async def test_its_agent_does_the_demonstration(self):
        tools = self.copy_of("tools", [("nmap.yaml", "type: cli", "type: cli\ncommand: echo")])
        (self.directory / "store").mkdir()
        shutil.copytree(self.EXAMPLE / "configs" / "skills", self.directory / "store" / "skills")
        async with self.session(tools_path=tools) as session:
            agent = await asyncio.create_subprocess_exec(
                sys.executable, str(self.EXAMPLE / "agent.py"), "--script",
                str(self.EXAMPLE / "demo.json"), "Which ports are open here?",
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT / "python"),
                     "SESSION_URL": session._lease.url, "SESSION_AUTH_TOKEN": session._lease.token})
            said, told = await asyncio.wait_for(agent.communicate(), 60)
            self.assertEqual(agent.returncode, 0, told.decode())
            self.assertIn("scan.json", said.decode())
            self.assertIn("['port_scan']", told.decode())
            self.assertEqual(await session.load_artifact("scan.json"),
                             {"target": "127.0.0.1", "raw": "-p 22,80 127.0.0.1\n"})


class RemoteTest(harness.ServerCase):
    """A server that runs already."""

    def remote(self, **options):
        return ContainerConfig(remote_url=self.server.url, auth_token=self.server.token, **options)

    def test_a_conversation(self):
        async def conversation():
            async with carrel.Session(executor=ContainerExecutor(self.remote())) as session:
                await session.run("x = 20")
                return (await session.run("x + 22")).value
        self.assertEqual(asyncio.run(conversation()), 42)

    def test_a_bad_token(self):
        async def conversation():
            config = ContainerConfig(remote_url=self.server.url, auth_token="wrong")
            async with carrel.Session(executor=ContainerExecutor(config)) as session:
                await session.run("1")
        with self.assertRaisesRegex(carrel.AuthenticationError, "Invalid token"):
            asyncio.run(conversation())

    def test_a_session_goes_on(self):
        def cell(code):
            with carrel.blocking.Session(executor=ContainerExecutor(self.remote()),
                                         session_id=self.session) as session:
                return session.run(code)
        cell("x = 7")
        self.assertEqual(cell("x").value, 7)


class SeedTest(PackageCase):
    """Scripts of py-code-mode's users, word for word after the import line."""

    def setUp(self):
        super().setUp()
        self.configs = self.directory / "configs"
        (self.configs / "tools").mkdir(parents=True)
        (self.configs / "skills").mkdir()
        (self.configs / "tools" / "nmap.yaml").write_text(NMAP)
        (self.configs / "skills" / "port_scan.py").write_text(PORT_SCAN)

    def run_script(self, text, **environment):
        """Runs an asynchronous script as a program; what its `result` was."""
        script = "import asyncio, os, json\n" + text.partition("\n\n")[0] + "\nasync def main():\n" + \
            textwrap.indent(text.partition("\n\n")[2], "    ") + \
            "\n    print(json.dumps([result.value, result.error]))\nasyncio.run(main())\n"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script], text=True, timeout=120,
            capture_output=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT / "python"),
                 "CONTAINER_AUTH_TOKEN": "of-the-program", **environment})
        self.assertEqual(done.returncode, 0, done.stderr)
        value, error = json.loads(done.stdout)
        self.assertIsNone(error)
        return value

    def redis(self):
        """A Redis of the test's own; its URL."""
        with harness.socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            ["/usr/bin/redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
             "--dir", str(self.directory), "--requirepass", "pw"], stdout=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        end = time.monotonic() + 20
        while True:
            try:
                harness.socket.create_connection(("127.0.0.1", port), 1).close()
                return f"redis://:pw@127.0.0.1:{port}"
            except OSError:
                self.assertLess(time.monotonic(), end, "redis does not start")
                time.sleep(0.02)

    def bootstrap(self, kind, url, prefix):
        done = subprocess.run(
            [str(harness.CARREL), "store", "bootstrap", "--source", str(self.configs / kind),
             "--target", url, "--prefix", prefix, "--type", kind],
            capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_seed_azure(self):
        """The README of examples/azure-container-apps."""
        url = self.redis()
        self.bootstrap("tools", url, "myapp:tools")
        self.bootstrap("skills", url, "myapp:skills")
        script = textwrap.dedent('''\
            from carrel import Session, RedisStorage

            storage = RedisStorage(
                redis_url=os.environ["REDIS_URL"],
                tools_prefix="myapp:tools",
                skills_prefix="myapp:skills",
                artifacts_prefix="myapp:artifacts",
            )

            async with Session(storage=storage) as session:
                result = await session.run('%s')
            ''')
        self.assertEqual(
            self.run_script(script % 'tools.nmap(target="10.0.0.1", flags="-sT -p 80")',
                            REDIS_URL=url), "-sT -p 80 10.0.0.1\n")
        self.assertEqual(
            self.run_script(script % 'skills.port_scan(target="10.0.0.1")', REDIS_URL=url),
            {"target": "10.0.0.1", "raw": "-p 80,443 10.0.0.1\n"})

    def test_seed_production(self):
        """docs/production.md; numpy and pandas are those every session has."""
        script = textwrap.dedent('''\
            from carrel import Session, RedisStorage
            from carrel.execution import ContainerExecutor, ContainerConfig

            agent_code = "2 + 2"

            # Shared skill library
            storage = RedisStorage(url=os.getenv("REDIS_URL"), prefix="production")

            # Isolated execution with authentication and pre-configured deps
            config = ContainerConfig(
                timeout=60.0,
                allow_runtime_deps=False,  # Lock down package installation
                auth_token=os.getenv("CONTAINER_AUTH_TOKEN"),  # Required for production
                deps=["pandas>=1.5", "numpy", "requests"],  # Pre-configured dependencies
            )
            executor = ContainerExecutor(config)

            async with Session(storage=storage, executor=executor, sync_deps_on_start=True) as session:
                result = await session.run(agent_code)
            ''')
        self.assertEqual(self.run_script(script, REDIS_URL=self.redis()), 4)

    def test_seed_isolation(self):
        """Its section on isolation, and the one on tenants."""
        script = textwrap.dedent('''\
            from carrel import Session, RedisStorage
            from carrel.execution import ContainerExecutor, ContainerConfig

            def get_storage(tenant_id: str, redis_url: str) -> RedisStorage:
                return RedisStorage(
                    url=redis_url,
                    prefix=f"tenant-{tenant_id}"
                )
            executor = ContainerExecutor(ContainerConfig(
                timeout=60.0,
                auth_token=os.getenv("CONTAINER_AUTH_TOKEN"),
                network_disabled=False,  # Set True to disable network
                memory_limit="512m",
                cpu_quota=None
            ))
            async with Session(storage=get_storage("a", os.environ["REDIS_URL"]),
                               executor=executor) as session:
                await session.run("artifacts.save('secret', 'of a')")
                result = await session.run("artifacts.load('secret')")
                assert result.value == "of a", result
            async with Session(storage=get_storage("b", os.environ["REDIS_URL"]),
                               executor=executor) as session:
                result = await session.run("artifacts.exists('secret')")
            ''')
        self.assertIs(self.run_script(script, REDIS_URL=self.redis()), False)


if __name__ == "__main__":
    unittest.main()
