"""A session that makes host calls as large as they can be, again and again: everybody else is served as
before, because a thread reads and writes what is large."""

import json
import pathlib
import statistics
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import hostile  # noqa: E402

harness = hostile.harness

SERIAL = True

SECONDS = 2
# Before, each of these calls took 0.2 s of the loop.
SLOWER_MAX = 0.06

CALLS = """
import json, time
_calls = __import__('_carrel.calls').calls
def attack(method, arguments, seconds):
    end, done = time.monotonic() + seconds, {}
    while time.monotonic() < end:
        try:
            _calls.ask(method, arguments, blocking=True)
            said = "answered"
        except Exception as e:
            said = f"{type(e).__name__}: {e}"
        done[said[:90]] = done.get(said[:90], 0) + 1
    return done
"""

EIGHT = (8 << 20) - 200


class LargeCalls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server({
            "pools": [{"name": "default", "ready_sessions": 3, "memory": "768m"}]})
        cls.server.start()
        cls.addClassCleanup(cls.server.stop)
        cls.server.value("attacker", CALLS + "1")

    def served(self, seconds=SECONDS):
        """The median of /health and of an execution with a host call. On a loop that works for the
        attacker nearly all of them wait; on a busy machine, which is no fault, some do."""
        times = {"health": [], "execution": []}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for what, ask in (("health", lambda: self.server.request("GET", "health")),
                              ("execution", lambda: self.server.value(
                                  "neighbour", "artifacts.exists('a')"))):
                begun = time.monotonic()
                ask()
                times[what].append(time.monotonic() - begun)
                time.sleep(0.01)
        return {what: statistics.median(t) for what, t in times.items()}

    def under_attack(self, code):
        said = {}
        thread = threading.Thread(target=lambda: said.update(json.loads(
            self.server.value("attacker", f"json.dumps({code})"))), daemon=True)
        thread.start()
        time.sleep(0.5)
        slow = self.served()
        thread.join(60)
        self.assertFalse(thread.is_alive())
        return slow, said

    def check(self, code, words):
        before = self.served()
        slow, said = self.under_attack(code)
        self.assertTrue(any(words in s for s in said), said)
        self.assertGreaterEqual(sum(said.values()), 4, said)
        for what in slow:
            self.assertLess(slow[what], before[what] * 5 + SLOWER_MAX, (before, slow, said))

    def test_arguments(self):
        seconds = SECONDS + 1
        for what, code, words in (
                ("a text", f"attack('skills.create', {{'name': 'x', 'source': 'y' * {EIGHT}}}, {seconds})",
                 "at most 1024 KiB"),
                ("numbers", f"attack('artifacts.register', {{'name': 'x', 'metadata': {{'m': [0.25] * 150000}}}},"
                            f" {seconds})", ""),
                ("of a tool", f"attack('tools.call', {{'tool': 'x', 'arguments': {{'y': 'z' * {EIGHT}}}}}, {seconds})",
                 "larger than 1 MiB")):
            with self.subTest(what=what):
                self.check(code, words)

    def test_answers(self):
        """A list of skills that is some mebibytes of JSON."""
        self.server.value("attacker", """
for i in range(60):
    skills.create(f's{i}', f'def run():\\n    return {i}\\n', 'd' * 40000) and None
1""")
        self.check(f"attack('skills.list', {{}}, {SECONDS + 1})", "answered")

    def test_what_comes_behind_a_large_call_waits_for_it(self):
        """Bytes that follow arguments read by a thread are neither lost nor taken for an attack."""
        self.assertEqual(self.server.value("neighbour", """
import threading
said = []
def save(i):
    try:
        a = artifacts.save(f'big{i}', bytes([i]) * 3000000, metadata={'m': '\\u00e9' * 30000})
        said.append(f"{len(a.metadata['m'])} {artifacts.load(f'big{i}') == bytes([i]) * 3000000}")
    except Exception as e:
        said.append(repr(e))
threads = [threading.Thread(target=save, args=(i,)) for i in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
' '.join(said)"""), ' '.join(["30000 True"] * 4))

    def test_interrupted_while_it_is_read(self):
        """The session goes on after it, with what it had."""
        self.server.value("neighbour", CALLS + "kept = 7\n1")
        reply = self.server.execute(
            "neighbour", f"attack('skills.create', {{'name': 'x', 'source': 'y' * {EIGHT}}}, 30)",
            timeout=1)
        self.assertEqual(reply["verdict"], "time_limit", reply)
        self.assertEqual(self.server.value("neighbour", "kept"), 7)


if __name__ == "__main__":
    unittest.main()
