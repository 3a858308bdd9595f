"""Approvals under load while the server is killed, again and again, at any moment: nothing that was
acknowledged is lost, decided twice, or run after somebody said no; and at any moment the approvals are
what the audit trail says.

    CARREL_KILLS=1000 tests/run_python.py --seconds 7200 tests/e2e/approvals_kill_test.py

kills that often; otherwise it is 25 times, about a minute, and 200 times with CARREL_LONG. Among the
kills the disk is full for a while (as root only, who may mount one that is small), or PostgreSQL is
gone. CARREL_SEED repeats the choices of a run, as
far as a machine repeats itself.
"""

import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import postgres  # noqa: E402
from approvals_check import check, check_trail  # noqa: E402
from approvals_load import Ledger, Load  # noqa: E402
from harness import CARREL, Server  # noqa: E402
from outages import OUTAGES_S  # noqa: E402
from services import Service  # noqa: E402

SERIAL = True
KILLS = int(os.environ.get("CARREL_KILLS", "200" if "CARREL_LONG" in os.environ else "25"))
SEED = os.environ.get("CARREL_SEED") or str(random.SystemRandom().randrange(1 << 32))
SECRET = "whsec-of-the-test"
SHORTEST_S, LONGEST_S = 0.03, 1
GONE_S = 20
SHOWN = 20
NOTE = """
name: NAME
type: http
base_url: URL
endpoints:
  - name: note
    method: GET
    path: /note/{nonce}
"""


def processes():
    """{pid: (parent, when it was started)} of this machine."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = pathlib.Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            fields = text[text.rindex(")") + 2:].split()
            found[int(entry)] = (int(fields[1]), fields[19])
    return found


def descendants(pid):
    """{(pid, when it was started)} of all that PID and its children have started."""
    there = processes()
    found, new = set(), {pid}
    while new:
        new = {child for child, (parent, _) in there.items() if parent in new}
        found |= {(child, there[child][1]) for child in new}
    return found


class Receiver:
    """Takes callbacks and what runs tell, and now and then refuses a callback."""

    def __init__(self, chance):
        self.chance = chance
        self.deliveries, self.witnessed, self.wrong = [], [], []
        self.refusing = True
        self._lock = threading.Lock()

    def handle(self, request):
        if request.path.startswith("/note/"):
            with self._lock:
                self.witnessed.append((request.path.removeprefix("/note/"), time.time()))
            request.answer_json("noted")
            return
        with self._lock:
            refused = self.refusing and self.chance.random() < 0.1
        # It counts as taken before the answer: the server may be gone when it comes.
        self._take(request, not refused)
        request.answer(503 if refused else 200)

    def _take(self, request, taken):
        fields = dict(part.split("=", 1) for part in request.headers["Carrel-Signature"].split(","))
        mac = hmac.new(SECRET.encode(), fields["t"].encode() + b"." + request.body, hashlib.sha256)
        body = request.json()
        with self._lock:
            if not hmac.compare_digest(mac.hexdigest(), fields["v1"]):
                self.wrong.append(f"a wrong signature: {request.body[:200]}")
            if request.headers["Carrel-Delivery"] != body["id"]:
                self.wrong.append(f"{body['id']} came as {request.headers['Carrel-Delivery']}")
            self.deliveries.append((body["id"], body["approval"]["state"], taken))


class KillCase(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.chance = random.Random(SEED)
        directory = tempfile.TemporaryDirectory(prefix="carrel-kill-")
        self.addCleanup(directory.cleanup)
        self.base = pathlib.Path(directory.name)
        self.base.chmod(0o755)
        self.receiver = Receiver(random.Random(f"{SEED}-receiver"))
        self.service = Service(self.receiver.handle)
        self.service.__enter__()
        self.addCleanup(self.service.__exit__, None, None, None)
        tools = self.base / "tools"
        tools.mkdir()
        for name in ("witness", "gate"):
            (tools / f"{name}.yaml").write_text(
                NOTE.replace("NAME", name).replace("URL", self.service.url))
        self.left = set()

    def server(self, name, database=None):
        config = {
            "listen": f"127.0.0.1:{postgres.free_port()}",
            "data_dir": str(self.base / name),
            "pools": [{"name": "default", "ready_sessions": 1, "max_concurrent_sessions": 24,
                       "approvals": {"tools": ["gate"]}}],
            "code_mode": {"tools": {"dir": str(self.base / "tools"),
                                    "secrets": {"hook": {"env": "HOOK_SECRET"}}}},
            "approvals": {"lease_seconds": 1, "server": name, "callbacks": {
                "allow": [f"{self.service.url}/in"], "secret": "hook"}},
        }
        environment = {"HOOK_SECRET": SECRET, "CARREL_DATABASE_URL": database}
        server = Server(config, environment, token="of-the-test")
        server.port = int(config["listen"].rpartition(":")[2])
        self.addCleanup(server.stop, signal.SIGKILL)
        return server

    # --- killing ---

    def kill(self, server):
        self.left |= descendants(server.process.pid)
        server.stop(signal.SIGKILL)

    def kill_and_start(self, server, database):
        """Now and then another one while it starts; and now and then somebody looks at what the dead
        one left."""
        self.kill(server)
        kills = 1
        if self.chance.random() < 0.25:
            self.assert_the_trail_holds(database)
        while self.chance.random() < 0.15:
            server.start(wait=False)
            time.sleep(self.chance.uniform(0, 0.25))
            self.kill(server)
            kills += 1
        server.start()
        return kills

    def assert_all_gone(self):
        """Nothing that a killed server had started is there any more."""
        end = time.monotonic() + GONE_S
        while True:
            there = processes()
            left = [pid for pid, started in self.left
                    if pid in there and there[pid][1] == started]
            if not left:
                return
            self.assertLess(time.monotonic(), end, f"left behind: {left}")
            time.sleep(0.1)

    # --- what is true afterwards ---

    def audit(self, word, database):
        return subprocess.run([CARREL, "audit", word, "--database", database], check=False,
                              capture_output=True, text=True, timeout=300)

    def assert_the_trail_holds(self, database):
        """And every approval is what it says, whatever was begun just now."""
        done = self.audit("verify", database)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)

    def assert_all_is_well(self, load, database):
        self.receiver.refusing = False
        load.finish(120)
        end = time.monotonic() + 90
        wrong = [""]
        while wrong and time.monotonic() < end:
            # Callbacks that were refused come again after a pause that doubles.
            shown = load.shown()
            wrong = check(load.ledger, shown, list(self.receiver.deliveries),
                          list(self.receiver.witnessed)) + self.receiver.wrong
            if wrong and not all("did not arrive" in text for text in wrong):
                break
            if wrong:
                time.sleep(1)
        done = self.audit("export", database)
        self.assertEqual(done.returncode, 0, done.stderr)
        records = [json.loads(line) for line in done.stdout.splitlines()]
        wrong += check_trail(records, shown)
        self.tell(load.ledger, shown, records)
        self.assertEqual(wrong[:SHOWN], [], f"{len(wrong)} in all")
        self.assert_the_trail_holds(database)
        return shown

    def tell(self, ledger, shown, records):
        states = {}
        for one in shown.values():
            states[one["state"]] = states.get(one["state"], 0) + 1
        kinds = [event["kind"] for one in shown.values() for event in one["history"]]
        print(f"{len(shown)} approvals {states}; {len(ledger.heard)} decisions heard, "
              f"{ledger.refused} refused; {ledger.lost} answers lost; "
              f"{kinds.count('run_started')} runs, {kinds.count('run_interrupted')} interrupted; "
              f"{len(self.receiver.deliveries)} callbacks sent; "
              f"{len(self.receiver.witnessed)} runs witnessed; {len(records)} records in the trail; "
              f"CARREL_SEED={SEED}", flush=True)


class OneServer(KillCase):
    def test_killed_again_and_again(self):
        with self.subTest(CARREL_SEED=SEED, CARREL_KILLS=KILLS):
            self.kill_again_and_again()

    def small_disk(self, path):
        """A way to have it full, or nothing where nobody may mount one."""
        path.mkdir()
        if os.geteuid() != 0:
            return None
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192m", "carrel-test", path], check=True)
        self.addCleanup(subprocess.run, ["umount", "--lazy", path], check=True)
        return path / "ballast"

    @staticmethod
    @contextlib.contextmanager
    def full(ballast):
        with open(ballast, "wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            yield
        ballast.unlink()

    def kill_again_and_again(self):
        ballast = self.small_disk(self.base / "one")
        outages_s = list(OUTAGES_S) if ballast else []
        server = self.server("one")
        server.start()
        load = Load([server.port], server.token, Ledger(), SEED, f"{self.service.url}/in")
        kills = 0
        database = f"sqlite:{self.base}/one/approvals.db"
        with load:
            while kills < KILLS:
                time.sleep(self.chance.uniform(SHORTEST_S, LONGEST_S))
                if outages_s and kills >= KILLS // 4:
                    with self.full(ballast):
                        time.sleep(outages_s.pop())
                        if self.chance.random() < 0.5:
                            self.kill(server)
                    if server.process is None:
                        server.start()
                        kills += 1
                kills += self.kill_and_start(server, database)
        self.assert_all_gone()
        shown = self.assert_all_is_well(load, database)
        # It was a test at all: of everything there was something.
        states = {one["state"] for one in shown.values()}
        self.assertLessEqual({"approved", "rejected", "expired"}, states)
        self.assertGreater(len(self.receiver.deliveries), KILLS)
        self.assertGreater(len(self.receiver.witnessed), KILLS // 5)
        self.assertGreater(load.ledger.lost, KILLS // 2)
        self.assertEqual(server.stop(), 0)


class TwoServersAndPostgres(KillCase):
    def test_all_of_them_are_killed(self):
        with self.subTest(CARREL_SEED=SEED, CARREL_KILLS=KILLS):
            self.kill_all_of_them()

    def kill_all_of_them(self):
        with postgres.Postgres() as database:
            servers = [self.server(name, database.url) for name in ("one", "two")]
            for server in servers:
                server.start()
            load = Load([server.port for server in servers], "of-the-test", Ledger(), SEED,
                        f"{self.service.url}/in")
            kills, database_kills = 0, 0
            outages_s = list(OUTAGES_S)
            with load:
                while kills + database_kills < max(6, KILLS // 2):
                    time.sleep(self.chance.uniform(SHORTEST_S, LONGEST_S))
                    if kills >= 3 * database_kills:
                        self.database_goes(
                            database, servers,
                            outages_s.pop() if outages_s else self.chance.uniform(0, 0.5))
                        database_kills += 1
                    else:
                        kills += self.kill_and_start(self.chance.choice(servers), database.url)
            self.assert_all_gone()
            print(f"{kills} servers and {database_kills} databases killed", flush=True)
            shown = self.assert_all_is_well(load, database.url)
            # Both have worked.
            owners = {event["body"]["owner"].partition("-")[0] for one in shown.values()
                      for event in one["history"] if event["kind"] == "run_started"}
            self.assertEqual(owners, {"one", "two"})
            for server in servers:
                self.assertEqual(server.stop(), 0)

    def database_goes(self, database, servers, outage_s):
        """And now and then a server with it, which starts when the database is back."""
        server = self.chance.choice(servers) if self.chance.random() < 0.3 else None
        database.kill()
        if server is not None:
            self.kill(server)
        time.sleep(outage_s)
        database.start()
        if server is not None:
            server.start()


if __name__ == "__main__":
    unittest.main()
