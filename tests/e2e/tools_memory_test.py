"""The memory of all commands of tools together: what the kernel ends at its limit, what it says, and
what it leaves alone."""

import glob
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import harness
import processes
import runner

MEMORY = 96 << 20
USED_UP = "Command failed: killed, because the memory that all commands share was used up"
SHELL = """
name: sh
timeout: 30
schema: {options: {c: {type: string, short: c}}}
"""

# Well within what one command may have; three of them are not.
FILL = """python3 -c '
import time
x = bytearray(60 << 20)
time.sleep(3)
print(len(x) >> 20)
'"""


def tools_dir(base):
    directory = pathlib.Path(base) / "tools"
    directory.mkdir()
    directory.chmod(0o755)
    (directory / "sh.yaml").write_text(SHELL)
    return directory


def group_of(pid):
    """Where it is in the hierarchy that has memory; None when it has ended."""
    unified = None
    for line in processes.read(pid, "cgroup").decode().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return path
        if controllers == "":
            unified = path
    return unified


def runner_of(server):
    return next(pid for pid in processes.children(server.process.pid)
                if processes.read(pid, "cmdline").startswith(b"carrel-runner"))


def groups_of(pid):
    """The directories that a process made for its groups, as the host shows them."""
    return glob.glob(f"/sys/fs/cgroup/**/carrel-*-{pid}-*", recursive=True)


class Base(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="carrel-memory-")
        self.addCleanup(directory.cleanup)
        self.base = pathlib.Path(directory.name)
        self.base.chmod(0o755)
        self.tools = tools_dir(self.base)

    def server(self, memory=MEMORY):
        return harness.Server({"code_mode": {"tools": {"dir": str(self.tools), "memory": memory}}})

    def need_limit(self, server):
        """Skips where this host gives no control groups; what says so is checked elsewhere."""
        told = [e for e in server.events if e.get("event", "").startswith("commands_memory")]
        self.assertEqual(len(told), 1, server.log_text())
        if told[0]["event"] == "commands_memory_unlimited":
            self.assertIn("reason", told[0])
            self.skipTest(told[0]["reason"])
        self.assertEqual(told[0]["limit_bytes"], MEMORY)

    def said(self, server, script, identifier="caller"):
        """What the tool said, or the error of its call."""
        return server.value(identifier, f"""
try:
    said = tools.sh(c={script!r})
except Exception as e:
    said = str(e)
said""")


class Limit(Base):
    def test_commands_that_fill_it_together_are_told_and_nobody_else_is_touched(self):
        with self.server() as server:
            self.need_limit(server)
            process = runner_of(server)
            server.value("bystander", "import os\nkept = bytearray(80 << 20)\nnumber = os.getpid()")
            said = server.value("caller", f"""
import asyncio
async def one():
    try:
        return (await tools.sh(c={FILL!r})).strip()
    except Exception as e:
        return str(e)
' | '.join(await asyncio.gather(*(one() for _ in range(4))))""").split(" | ")
            self.assertEqual(set(said) - {"60"}, {f"Tool 'sh' failed: {USED_UP}"}, said)
            self.assertIn("60", said)
            self.assertTrue([e for e in server.events if e.get("event") == "commands_memory_full"])
            # The runner is the same process, and there is room again.
            self.assertEqual(runner_of(server), process)
            self.assertEqual(self.said(server, FILL).strip(), "60")
            self.assertIs(server.value("bystander", "len(kept) == 80 << 20 and os.getpid() == number"),
                          True)
            # Who is killed for another reason is not told of memory, though it was full before.
            self.assertEqual(self.said(server, "kill -9 $$"), "Tool 'sh' failed: Command failed: Exit code 137")

    def test_the_runner_is_outside_and_everything_it_starts_inside(self):
        with self.server() as server:
            self.need_limit(server)
            process = runner_of(server)
            self.assertEqual(self.said(server, "echo up").strip(), "up")
            end = time.monotonic() + 10
            inside = set()
            # The process that the next command is made of joins as its first step.
            while {os.path.basename(path) for path in inside} != {"s0"}:
                self.assertLess(time.monotonic(), end, inside)
                inside = {group_of(pid) for pid in processes.descendants(process)} - {None}
            self.assertEqual(len(inside), 1)
            self.assertFalse(group_of(process).endswith("/s0"))

    def test_a_command_does_not_leave_the_group_nor_change_it(self):
        with self.server() as server:
            self.need_limit(server)
            process = runner_of(server)
            self.assertEqual(self.said(server, "echo up").strip(), "up")
            groups = groups_of(process)
            self.assertTrue(groups)
            outside = pathlib.Path(groups[0]).parent
            limits = [*pathlib.Path(groups[0]).glob("s0/memory.limit_in_bytes"),
                      *pathlib.Path(groups[0]).glob("s0/memory.max")]
            self.assertTrue(limits)
            targets = [*(outside / n for n in ("tasks", "cgroup.procs") if (outside / n).exists()),
                       *limits]
            before = [path.read_text() for path in limits]
            for target in targets:
                self.assertIn("Permission denied", self.said(server, f"echo 0 > {target}"), target)
            self.assertIn("Permission denied", self.said(server, f"mkdir {groups[0]}/mine"))
            self.assertEqual([path.read_text() for path in limits], before)

    def test_many_small_processes_do_not_reach_the_runner(self):
        """The kernel ends the largest; each of these is smaller than the runner itself."""
        many = ("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 "
                "29 30 31 32; do (head -c 5000000 /dev/zero; sleep 2) | tail -c 5000000 >/dev/null & "
                "done; wait; echo waited")
        with self.server() as server:
            self.need_limit(server)
            process = runner_of(server)
            self.assertTrue(self.said(server, many))
            kills = [pathlib.Path(g) / "s0" / n for g in groups_of(process)
                     for n in ("memory.oom_control", "memory.events")]
            counted = [line.split()[1] for path in kills if path.exists()
                       for line in path.read_text().splitlines() if line.startswith("oom_kill ")]
            self.assertGreater(int(counted[0]), 0)
            self.assertEqual(runner_of(server), process)
            self.assertEqual(self.said(server, "echo up").strip(), "up")

    def test_the_next_server_removes_the_group(self):
        with self.server() as server:
            self.need_limit(server)
            self.assertEqual(self.said(server, "echo up").strip(), "up")
            first = runner_of(server)
            self.assertTrue(groups_of(first))
        with self.server() as server:
            self.assertEqual(self.said(server, "echo up").strip(), "up")
            self.assertEqual(groups_of(first), [])
            self.assertTrue(groups_of(runner_of(server)))


    def test_a_server_of_tools_counts_too_and_its_problem_says_so(self):
        with self.server() as server:
            self.need_limit(server)
        files = {"sh.yaml": SHELL, "full.yaml": """
            name: full
            type: mcp
            transport: stdio
            command: python3
            args: ["-c", "x = bytearray(200 << 20)"]
            """}
        with runner.Runner(files, memory_bytes=MEMORY) as tools:
            self.assertIn(USED_UP.removeprefix("Command failed: "),
                          tools.wait_for_problem("the memory that all"))
            self.assertEqual(tools.text("sh", {"c": "echo up"}), "up\n")


class NoLimit(Base):
    def test_none_was_asked_for(self):
        with self.server(0) as server:
            self.assertEqual(self.said(server, "echo up").strip(), "up")
            self.assertEqual(groups_of(runner_of(server)), [])
            self.assertNotIn("commands_memory", server.log_text())

    def test_where_there_are_no_control_groups_tools_run_and_the_log_says_so(self):
        if os.geteuid() != 0:
            self.skipTest("nobody else can be made to run it")
        copy = shutil.copy(harness.CARREL.with_name("carrel-runner"), self.base)
        server = harness.Server({"code_mode": {"tools": {"dir": str(self.tools)}}}, user=65534,
                                environment={"CARREL_RUNNER": copy})
        with server:
            self.assertEqual(self.said(server, "echo up").strip(), "up")
            told = [e for e in server.events if e.get("event") == "commands_memory_unlimited"]
            self.assertEqual(len(told), 1, server.log_text())
            self.assertTrue(told[0]["reason"])

    def test_doctor_says_which(self):
        for memory, words in ((0, "code_mode.tools.memory is 0"), ("64m", None)):
            config = self.base / "carrel.yaml"
            config.write_text(json.dumps({"code_mode": {"tools": {"memory": memory}}}))
            done = subprocess.run([harness.CARREL, "doctor", "-o", "json", "--config", config],
                                  capture_output=True, text=True)
            walls = {w["name"]: w for w in json.loads(done.stdout)["walls"]}
            wall = walls["tools' memory limit"]
            if words is None:
                self.assertEqual(wall["state"], walls["memory limit"]["state"])
            else:
                self.assertEqual((wall["state"], wall["reason"]), ("missing", words))
            self.assertFalse(wall["required"])


if __name__ == "__main__":
    unittest.main()
