"""carrel store, against a redis-server of the test's own and against directories; and that a store is
the same to py-code-mode, whose keys python3-redis writes and reads here as its RedisStorage does."""

import json
import os
import pathlib
import pty
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import redis

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import CARREL  # noqa: E402

OK, USER, USAGE, SERVER_SIDE = 0, 1, 2, 3
PASSWORD = "Se-cret" + secrets.token_hex(4)
WRITERS = 20
SCAN = '"""Scan ports."""\ndef run(target: str) -> str:\n    return target\n'
PLAIN = 'async def run():\n    """Do nothing."""\n'


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Redis:
    """A redis-server, stopped by the one who started it."""

    def __init__(self, tls=False):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="carrel-redis-"))
        self.port, self.tls = free_port(), tls
        self.certificate = self.directory / "cert.pem"
        # It goes with the test, however that ends.
        command = ["setpriv", "--pdeathsig", "KILL", "redis-server", "--bind", "127.0.0.1",
                   "--dir", self.directory, "--save", "",
                   "--requirepass", PASSWORD]
        if tls:
            key = self.directory / "key.pem"
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                 "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test", "-addext",
                 "subjectAltName=DNS:localhost", "-keyout", key, "-out", self.certificate],
                check=True, capture_output=True)
            command += ["--port", "0", "--tls-port", str(self.port), "--tls-cert-file",
                        self.certificate, "--tls-key-file", key, "--tls-ca-cert-file",
                        self.certificate, "--tls-auth-clients", "no"]
        else:
            command += ["--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        more = {"ssl": True, "ssl_ca_certs": str(self.certificate)} if tls else {}
        self.client = redis.Redis("localhost" if tls else "127.0.0.1", self.port,
                                  password=PASSWORD, **more)
        for _ in range(3000):
            try:
                self.client.ping()
                break
            except redis.exceptions.ConnectionError:
                time.sleep(0.01)
        host = "localhost" if tls else "127.0.0.1"
        self.url = f"redis{'s' if tls else ''}://:{PASSWORD}@{host}:{self.port}"
        self.shown = f"redis{'s' if tls else ''}://{host}:{self.port}/0"

    def stop(self):
        self.client.close()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory)


class Case(unittest.TestCase):
    tls = False

    @classmethod
    def setUpClass(cls):
        cls.redis = Redis(cls.tls)
        cls.addClassCleanup(cls.redis.stop)

    def setUp(self):
        self.redis.client.flushall()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="carrel-store-cli-"))
        self.addCleanup(shutil.rmtree, self.dir)

    def write(self, files):
        for name, text in files.items():
            path = self.dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def carrel(self, *words, status=OK, target=True):
        command = [CARREL, "store", *words]
        if target:
            command += ["--target", self.redis.url]
        if self.tls:
            command += ["--ca-file", self.redis.certificate]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False,
                              cwd=self.dir, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, status, (done.stdout, done.stderr))
        self.assertNotIn(PASSWORD, done.stdout + done.stderr)
        return done

    def lines(self, *words, **more):
        return self.carrel(*words, **more).stdout.splitlines()


class Skills(Case):
    def test_a_directory_becomes_skills(self):
        self.write({"s/scan.py": SCAN, "s/plain.py": PLAIN, "s/_private.py": "x", "s/note.txt": "x"})
        self.assertEqual(self.lines("bootstrap", "--source", "s", "--prefix", "my:skills"), [
            "  Added: plain", "  Added: scan",
            f"Bootstrapped 2 skills to {self.redis.shown} (prefix: my:skills)"])
        stored = json.loads(self.redis.client.hget("my:skills:__skills__", "scan"))
        self.assertEqual(stored, {"name": "scan", "description": "Scan ports.", "source": SCAN})
        self.assertEqual(self.lines("list", "--prefix", "my:skills"), [
            "  plain: Do nothing.", "  scan: Scan ports.",
            f"2 skills in {self.redis.shown} (prefix: my:skills)"])
        self.assertEqual(self.lines("pull", "--prefix", "my:skills", "--dest", "out")[-1],
                         "Pulled 2 skills to out")
        self.assertEqual((self.dir / "out/scan.py").read_text(), SCAN)

    def test_what_is_wrong_is_named_and_skipped(self):
        self.write({"s/good.py": SCAN, "s/open.py": "def run():\n  x = (1\n", "s/none.py": "x = 1\n",
                    "s/list.py": SCAN, "s/no-name.py": SCAN, "s/raw.py": b"#\xff\ndef run(): pass",
                    "s/big.py": SCAN + "#" * (1 << 20)})
        (self.dir / "s/dir.py").mkdir()
        os.mkfifo(self.dir / "s/pipe.py")
        done = self.carrel("bootstrap", "--source", "s", status=USER)
        self.assertIn("Bootstrapped 1 skills", done.stdout)
        for part in ("open.py: line 2: a bracket is not closed; skipped", "none.py: line 2: it def",
                     "list.py: ", "no-name.py: ", "raw.py: line 1: it is not UTF-8", "big.py: it has",
                     "dir.py: it is not a regular file", "pipe.py: it is not a regular file"):
            self.assertIn(part, done.stderr)
        self.assertEqual(self.redis.client.hkeys("skills:__skills__"), [b"good"])

    def test_clear_takes_out_what_was_there(self):
        self.redis.client.hset("skills:__skills__", "old", json.dumps(
            {"name": "old", "description": "", "source": "def run(): pass"}))
        self.write({"s/scan.py": SCAN})
        self.assertEqual(self.lines("bootstrap", "--source", "s", "--clear")[:2],
                         ["  Removed: old", "  Added: scan"])
        self.assertEqual(self.redis.client.hkeys("skills:__skills__"), [b"scan"])
        # A source that is not there clears nothing.
        done = self.carrel("bootstrap", "--source", "nowhere", "--clear", status=USER)
        self.assertIn("nowhere", done.stderr)
        self.assertEqual(self.redis.client.hkeys("skills:__skills__"), [b"scan"])

    def test_diff_says_what_differs_with_its_exit_status(self):
        self.write({"s/same.py": SCAN, "s/changed.py": SCAN, "s/gone.py": SCAN})
        self.carrel("bootstrap", "--source", "s")
        self.assertEqual(self.lines("diff", "--source", "s"),
                         ["  = changed", "  = gone", "  = same"])
        self.redis.client.hdel("skills:__skills__", "gone")
        for name in ("changed", "made"):
            self.redis.client.hset("skills:__skills__", name, json.dumps(
                {"name": name, "description": "", "source": "def run(): return 1"}))
        self.assertEqual(self.lines("diff", "--source", "s", status=USER), [
            "  ~ changed (modified)", "  - gone (removed from store)", "  + made (agent-created)",
            "  = same"])
        said = json.loads(self.carrel("diff", "--source", "s", "-o", "json", status=USER).stdout)
        self.assertEqual({i["name"]: i["difference"] for i in said["items"]},
                         {"changed": "~", "gone": "-", "made": "+", "same": "="})

    def test_many_writers_at_once_lose_nothing(self):
        running = []
        for i in range(WRITERS):
            self.write({f"s{i}/own_{i}_{j}.py": SCAN for j in range(5)})
            self.write({f"s{i}/same.py": f"def run(): return {i}\n"})
            running.append(subprocess.Popen(
                [CARREL, "store", "bootstrap", "--source", f"s{i}", "--target", self.redis.url],
                cwd=self.dir, stdout=subprocess.DEVNULL))
        self.assertEqual([p.wait(timeout=60) for p in running], [OK] * WRITERS)
        self.assertEqual(self.redis.client.hlen("skills:__skills__"), WRITERS * 5 + 1)

    def test_what_a_store_says_does_not_reach_the_terminal(self):
        self.redis.client.hset("skills:__skills__", "evil", json.dumps(
            {"name": "evil", "description": "\x1b]0;title\x07", "source": "def run(): pass"}))
        main, follow = pty.openpty()
        done = subprocess.run([CARREL, "store", "list", "--target", self.redis.url], stdout=follow,
                              stderr=follow, stdin=subprocess.DEVNULL, timeout=30, check=False)
        os.close(follow)
        said = os.read(main, 65536)
        os.close(main)
        self.assertEqual(done.returncode, OK)
        self.assertNotIn(b"\x1b", said)
        self.assertIn(b"evil", said)


class Others(Case):
    def test_tools(self):
        self.write({"t/nmap.yaml": "name: nmap\ntype: cli\nargs: '{flags} {target}'\n",
                    "t/bad.yaml": "name: x\n  y: [\n", "t/anonymous.yaml": "type: cli\n",
                    "t/ignored.yml": "name: other\n"})
        done = self.carrel("bootstrap", "--type", "tools", "--source", "t", "--prefix", "p:tools",
                           status=USER)
        self.assertRegex(done.stderr, r"bad.yaml: line \d+: ")
        self.assertIn("anonymous.yaml: line 1: a tool must have a name", done.stderr)
        self.assertEqual(self.redis.client.hgetall("p:tools:__tools__").keys(), {b"nmap"})
        self.assertEqual(json.loads(self.redis.client.hget("p:tools:__tools__", "nmap")),
                         {"name": "nmap", "type": "cli", "args": "{flags} {target}"})
        self.carrel("pull", "--type", "tools", "--prefix", "p:tools", "--dest", "back")
        self.assertEqual(self.lines("diff", "--type", "tools", "--prefix", "p:tools", "--source",
                                    "back"), ["  = nmap"])

    def test_dependencies(self):
        self.write({"r.txt": "# all of them\nNumPy>=1.2\n\nmy_pack[x]==1  # why\n-e .\nx @ http://y\n"})
        done = self.carrel("bootstrap", "--type", "deps", "--source", "r.txt", "--prefix", "p:deps",
                           status=USER)
        self.assertIn("r.txt: line 5: ", done.stderr)
        self.assertIn("r.txt: line 6: ", done.stderr)
        self.assertEqual(self.redis.client.smembers("p:deps:deps"), {b"numpy>=1.2", b"my-pack[x]==1"})
        self.assertEqual(self.lines("bootstrap", "--type", "deps", "--prefix", "p:deps", "--deps",
                                    "numpy==2", "requests")[:2],
                         ["  Added: numpy==2", "  Added: requests"])
        self.assertEqual(self.lines("list", "--type", "deps", "--prefix", "p:deps")[:3],
                         ["  my-pack[x]==1", "  numpy==2", "  requests"])
        self.write({"r.txt": "numpy>=1\nrequests\n"})
        self.assertEqual(
            self.lines("diff", "--type", "deps", "--prefix", "p:deps", "--source", "r.txt",
                       status=USER),
            ["  + my-pack (agent-created)", "  ~ numpy (modified)", "  = requests"])

    def test_artifacts(self):
        big = os.urandom(3_000_001)
        self.write({"a/sub/big.bin": big, "a/note.txt": "text", "a/empty": ""})
        (self.dir / "a/link").symlink_to("/etc/passwd")
        self.assertEqual(self.lines("bootstrap", "--type", "artifacts", "--source", "a")[-1],
                         f"Bootstrapped 3 artifacts to {self.redis.shown} (prefix: artifacts)")
        self.assertEqual(self.redis.client.get("artifacts:sub/big.bin"), big)
        self.assertEqual(self.redis.client.ttl("artifacts:sub/big.bin"), -1)
        entry = json.loads(self.redis.client.hget("artifacts:__index__", "note.txt"))
        self.assertEqual(entry["metadata"], {"_data_type": "text"})
        self.assertEqual(self.lines("diff", "--type", "artifacts", "--source", "a"),
                         ["  = empty", "  = note.txt", "  = sub/big.bin"])
        self.redis.client.set("artifacts:note.txt", "TEXT")
        self.assertEqual(self.lines("diff", "--type", "artifacts", "--source", "a", status=USER)[1],
                         "  ~ note.txt (modified)")
        self.assertEqual(self.lines("pull", "--type", "artifacts", "--dest", "out")[-1],
                         "Pulled 3 artifacts to out")
        self.assertEqual((self.dir / "out/sub/big.bin").read_bytes(), big)
        self.assertEqual([k for k in self.redis.client.keys() if b"__upload__" in k], [])

    def test_a_store_cannot_write_outside_of_a_directory(self):
        for name in (b"../up", b"/tmp/carrel-abs", b"a/../../up", b".artifacts.json", b"x\0y"):
            self.redis.client.set(b"artifacts:" + name, "x")
            self.redis.client.hset("artifacts:__index__", name, "{}")
            record = {"name": "../up", "description": "", "source": "def run(): pass"}
            self.redis.client.hset("skills:__skills__", name, json.dumps(record))
            self.redis.client.hset("tools:__tools__", name, json.dumps(record))
        for kind in ("skills", "tools", "artifacts"):
            self.carrel("pull", "--type", kind, "--dest", kind)
        found = {p.name for p in self.dir.rglob("*") if not p.name.startswith(".")}
        self.assertEqual(found, {"skills", "tools", "artifacts"})
        self.assertFalse(pathlib.Path("/tmp/carrel-abs").exists())

    def test_export_and_import_are_the_whole_store(self):
        self.write({"s/scan.py": SCAN, "t/nmap.yaml": "name: nmap\n", "a/x/y.bin": b"\0\xff"})
        self.carrel("bootstrap", "--source", "s", "--prefix", "p:skills")
        self.carrel("bootstrap", "--type", "tools", "--source", "t", "--prefix", "p:tools")
        self.carrel("bootstrap", "--type", "artifacts", "--source", "a", "--prefix", "p:artifacts")
        self.carrel("bootstrap", "--type", "deps", "--deps", "numpy", "--prefix", "p:deps")
        self.assertEqual(self.lines("export", "--prefix", "p", "--dest", "all"), [
            "  tools: 1", "  skills: 1", "  deps: 1", "  artifacts: 1",
            f"Exported {self.redis.shown} to all"])
        # It is a file store: the commands work on it as they do on Redis.
        self.assertEqual(self.lines("list", "--target", "all", target=False)[0],
                         "  scan: Scan ports.")
        self.carrel("import", "--source", "all", "--prefix", "q")
        for key, name in (("skills:__skills__", "scan"), ("tools:__tools__", "nmap")):
            self.assertEqual(self.redis.client.hkeys(f"q:{key}"), [name.encode()])
            self.assertEqual(json.loads(self.redis.client.hget(f"q:{key}", name)),
                             json.loads(self.redis.client.hget(f"p:{key}", name)))
        self.assertEqual(self.redis.client.smembers("q:deps:deps"), {b"numpy"})
        self.assertEqual(self.redis.client.get("q:artifacts:x/y.bin"), b"\0\xff")


class OtherWriters(Case):
    """The keys as py-code-mode's RedisStorage(prefix="pcm") writes and reads them."""

    def test_what_it_wrote_is_read(self):
        r = self.redis.client
        r.hset("pcm:skills:__skills__", "greet", json.dumps({
            "name": "greet", "description": "Greet", "source": "async def run(n): return n",
            "parameters": [{"name": "n", "type": "string", "description": "", "required": True,
                            "default": None}]}))
        r.hset("pcm:workflows:__workflows__", "flow", json.dumps({
            "name": "flow", "description": "A later one", "source": "async def run(): pass"}))
        r.set("pcm:artifacts:r.json", json.dumps({"x": float("nan"), "s": "\ud800"}))
        r.hset("pcm:artifacts:__index__", "r.json", json.dumps({
            "description": "Numbers", "created_at": "2026-01-02T03:04:05.000001+00:00",
            "metadata": {"_data_type": "json", "rows": 2}}))
        said = json.loads(self.carrel("list", "--prefix", "pcm:skills", "-o", "json").stdout)
        self.assertEqual([i["name"] for i in said["items"]], ["flow", "greet"])
        self.assertEqual(said["items"][1]["parameters"][0]["name"], "n")
        said = json.loads(self.carrel("list", "--type", "artifacts", "--prefix", "pcm:artifacts",
                                      "-o", "json").stdout)
        self.assertEqual(said["items"], [{
            "name": "r.json", "path": "pcm:artifacts:r.json", "description": "Numbers",
            "created_at": "2026-01-02T03:04:05.000001+00:00", "metadata": {"rows": 2},
            "type": "json", "size": r.strlen("pcm:artifacts:r.json")}])
        self.carrel("pull", "--type", "artifacts", "--prefix", "pcm:artifacts", "--dest", "out")
        self.assertEqual((self.dir / "out/r.json").read_bytes(), r.get("pcm:artifacts:r.json"))

    def test_what_we_write_is_what_it_reads(self):
        self.write({"s/scan.py": SCAN, "a/r.json": '{"a": 1}', "a/raw": b"\xff\0"})
        self.carrel("bootstrap", "--source", "s", "--prefix", "pcm:skills")
        self.carrel("bootstrap", "--type", "artifacts", "--source", "a", "--prefix", "pcm:artifacts")
        r = self.redis.client
        skill = json.loads(r.hget("pcm:skills:__skills__", "scan"))
        self.assertLessEqual({"name", "source", "description"}, skill.keys())
        compile(skill["source"], "scan.py", "exec")
        for name, kind, data in (("r.json", "json", b'{"a": 1}'), ("raw", "bytes", b"\xff\0")):
            self.assertEqual(r.get(f"pcm:artifacts:{name}"), data)
            entry = json.loads(r.hget("pcm:artifacts:__index__", name))
            self.assertEqual(entry["metadata"]["_data_type"], kind)
            self.assertRegex(entry["created_at"], r"^\d{4}-\d\d-\d\dT.*\+00:00$")
            self.assertEqual(entry["description"], "")


class Trouble(Case):
    def test_wrong_use(self):
        for words in ([], ["fly"], ["list", "more"], ["list", "--source", "s"], ["bootstrap"],
                      ["pull"], ["diff"], ["list", "--type", "fish"], ["list", "--clear"],
                      ["bootstrap", "--source", "s", "--deps", "x"]):
            done = self.carrel(*words, status=USAGE)
            self.assertIn("carrel help store", done.stderr)
        done = self.carrel("list", status=USAGE, target=False)
        self.assertIn("--target", done.stderr)
        for target in ("s3://bucket/x", "cosmos://x", "http://x"):
            done = self.carrel("list", "--target", target, status=USAGE, target=False)
            self.assertIn("a Redis URL", done.stderr)
        self.carrel("list", "--target", "no-directory", status=USER, target=False)
        self.assertFalse((self.dir / "no-directory").exists())

    def test_a_store_that_is_down_is_said_at_once(self):
        start = time.monotonic()
        done = self.carrel("list", "--target", f"redis://:{PASSWORD}@127.0.0.1:{free_port()}",
                           status=SERVER_SIDE, target=False)
        self.assertIn("the store cannot be reached: connection refused", done.stderr)
        self.assertLess(time.monotonic() - start, 5)
        done = self.carrel("list", "--target", f"redis://:not{PASSWORD}@127.0.0.1:{self.redis.port}",
                           status=SERVER_SIDE, target=False)
        self.assertIn("WRONGPASS", done.stderr)

    def test_the_url_may_come_from_the_environment(self):
        done = subprocess.run([CARREL, "store", "list"], capture_output=True, text=True, timeout=60,
                              check=False, env={**os.environ, "REDIS_URL": self.redis.url})
        self.assertEqual(done.stdout, f"0 skills in {self.redis.shown} (prefix: skills)\n")


class OverTls(Case):
    tls = True

    def test_all_of_it_over_tls(self):
        big = os.urandom(2_000_000)
        self.write({"s/scan.py": SCAN, "a/big": big})
        self.carrel("bootstrap", "--source", "s")
        self.carrel("bootstrap", "--type", "artifacts", "--source", "a")
        self.assertEqual(self.redis.client.get("artifacts:big"), big)
        self.assertEqual(self.lines("list")[-1], f"1 skills in {self.redis.shown} (prefix: skills)")
        # The form of Azure's portal.
        self.assertEqual(
            self.lines("list", "--target", f":{PASSWORD}@localhost:{self.redis.port}?ssl=true",
                       target=False)[0], "  scan: Scan ports.")

    def test_a_certificate_nobody_trusts_is_refused(self):
        done = subprocess.run([CARREL, "store", "list", "--target", self.redis.url], timeout=60,
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, SERVER_SIDE)
        self.assertIn("certificate", done.stderr)
        self.assertNotIn(PASSWORD, done.stderr)


if __name__ == "__main__":
    unittest.main()
