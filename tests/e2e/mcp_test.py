"""Servers of tools: a well-behaved one, and ones that are wrong in each way there is."""

import json
import os
import pathlib
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))
import runner as runners  # noqa: E402
from runner import Runner, readable  # noqa: E402

EXAMPLES = readable(HERE.parents[1] / "examples")
SERVERS = readable(HERE / "mcp")
TOKEN = "a-token-that-nobody-may-see"


def definition(name, **more):
    return json.dumps({"name": name, "type": "mcp", **more})


def stdio(name, *args, **more):
    return definition(name, command="/usr/bin/python3",
                      args=[str(SERVERS / "stdio_server.py"), *args], read=[str(SERVERS)], **more)


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


class Example(unittest.TestCase):
    """examples/tools/time.yaml, where it stands."""

    def test_the_time(self):
        with Runner(tools_file=None) as r:
            text = (EXAMPLES / "tools" / "time.yaml").read_text()
            r.write("time.yaml", text.replace("${tool_dir}/..", str(EXAMPLES)))
            tool = r.wait_for_tool("time")
            self.assertEqual([c["name"] for c in tool["callables"]], ["now", "convert"])
            parameters = {p["name"]: p for p in tool["callables"][0]["parameters"]}
            self.assertEqual((parameters["timezone"]["type"], parameters["timezone"]["default"],
                              parameters["timezone"]["required"]), ("string", "UTC", False))
            ok, value = r.call("time", "convert", time="2026-03-01T09:00", source="Asia/Tokyo",
                               target="America/New_York")
            self.assertEqual((ok, value), (True, {"text": "2026-02-28T19:00:00-05:00"}))
            ok, value = r.call("time", "now")
            self.assertTrue(ok and value["text"].endswith("+00:00"), value)
            ok, value = r.call("time", "now", timezone="Nowhere")
            self.assertEqual((ok, value["message"]), (False, "there is no time zone 'Nowhere'"))


class Stdio(unittest.TestCase):
    """A runner with one hostile server and one good one beside it. Each test has its own: the pauses
    before a server that ends is started again grow from one time to the next."""

    def setUp(self):
        self.runner = self.enterContext(Runner({
            "hostile.yaml": stdio("hostile", env={"TOKEN": "${secret:token}"}, timeout=3),
            "good.yaml": stdio("good", timeout=20),
        }, secrets={"token": TOKEN, "other": "the secret of another tool"}))
        self.settle()

    def settle(self):
        self.runner.wait_for_tool("good")
        self.runner.wait_for_tool("hostile")
        self.assertTrue(wait_until(lambda: self.runner.call("hostile", "echo", text="?")[0]))

    def tearDown(self):
        """Whatever the one did: the other is as it was, and the one comes back."""
        self.assertEqual(self.runner.call("good", "echo", text="still here"),
                         (True, {"text": "still here"}))
        self.settle()

    def call(self, name, **arguments):
        return self.runner.call("hostile", name, **arguments)

    def assert_failed(self, answer, code, *words):
        ok, value = answer
        self.assertFalse(ok, value)
        self.assertEqual(value["code"], code, value)
        for word in words:
            self.assertIn(word, value["message"])
        self.assertNotIn(TOKEN, value["message"])

    def test_what_it_has(self):
        tool = self.runner.tool("hostile")
        names = [c["name"] for c in tool["callables"]]
        self.assertIn("echo", names)
        self.assertIn("listed", names)
        self.assertEqual(len(names), len(set(names)))
        self.assertTrue(all(0 < len(n) <= 128 for n in names))
        self.assertEqual((tool["type"], tool["source"]), ("mcp", "file"))

    def test_arguments_are_checked_before_they_are_sent(self):
        self.assertEqual(self.call("typed", first="a", count=2), (True, {"text": "['a', 2]"}))
        self.assert_failed(self.call("typed", count=2), runners.INVALID, "first")
        self.assert_failed(self.call("typed", first="a", count="many"), runners.INVALID, "count")
        self.assert_failed(self.call("typed", first="a", third=3), runners.INVALID, "third")
        self.assert_failed(self.call("nothing"), runners.NOT_FOUND, "nothing")
        self.assert_failed(self.runner.call("hostile"), runners.NOT_FOUND)

    def test_text_is_what_it_was(self):
        for text in ("", "a\nb\r\n\u2028\"\\\t", "é😀", "\x00 and more", "x" * 300000,
                     '{"jsonrpc": "2.0"}'):
            self.assertEqual(self.call("echo", text=text), (True, {"text": text}))

    def test_results_of_every_kind(self):
        self.assertEqual(self.call("parts"), (True, {"text": "one\ntwo"}))
        self.assertEqual(self.call("structured"), (True, {"json": {"a": [1, 2.5, None]}}))
        self.assertEqual(self.call("null_error"), (True, {"text": "fine"}))
        self.assert_failed(self.call("fail"), runners.INTERNAL, "it broke")
        self.assert_failed(self.call("refuse"), runners.INTERNAL, "no, and my token is ***")
        self.assert_failed(self.call("no_result"), runners.INTERNAL)
        self.assertEqual(self.call("twice"), (True, {"text": "first"}))

    def test_garbage_is_read_over(self):
        self.assertEqual(self.call("garbage", count=1000), (True, {"text": "the truth"}))

    def test_a_lie_answers_nobody_else(self):
        hanging = [self.runner.begin("hostile", "hang") for _ in range(3)]
        self.assertEqual(self.call("garbage"), (True, {"text": "the truth"}))
        for number in hanging:
            self.runner.cancel(number)

    def test_the_client_answers_pings_and_refuses_the_rest(self):
        pong = json.loads(self.call("ping")[1]["text"])
        self.assertEqual((pong["id"], pong["result"]), ("mine", {}))
        self.assertEqual(json.loads(self.call("sample")[1]["text"])["error"]["code"], -32601)

    def test_large_answers(self):
        ok, value = self.call("huge", bytes=900000)
        self.assertEqual((ok, len(value["text"])), (True, 900000))
        ok, value = self.call("huge", bytes=2 << 20)
        self.assertTrue(ok)
        self.assertLess(len(value["text"]), (1 << 20) + 100)
        self.assertIn("cut", value["text"][-100:])
        self.assert_failed(self.call("huge", bytes=20 << 20), runners.UNAVAILABLE, "too long")

    def test_a_flood_ends_it(self):
        self.assert_failed(self.call("flood"), runners.UNAVAILABLE, "too long")

    def test_it_dies(self):
        self.assert_failed(self.call("die"), runners.UNAVAILABLE, "status 3")
        self.settle()
        self.assert_failed(self.call("die_loudly"), runners.UNAVAILABLE, "status 4",
                           "cannot go on, the token was ***")

    def test_calls_at_once_fail_together_when_it_dies(self):
        waiting = [self.runner.begin("hostile", "hang") for _ in range(50)]
        self.assert_failed(self.call("die"), runners.UNAVAILABLE)
        for number in waiting:
            self.assert_failed(self.runner.result(number), runners.UNAVAILABLE, "status 3")

    def test_time_is_up(self):
        began = time.monotonic()
        self.assert_failed(self.call("hang"), runners.TIMEOUT, "3s")
        self.assertLess(time.monotonic() - began, 5)
        self.assertEqual(self.call("echo", text="goes on"), (True, {"text": "goes on"}))

    def test_too_many_at_once(self):
        began = time.monotonic()
        numbers = [self.runner.begin("hostile", "hang") for _ in range(400)]
        codes = [self.runner.result(n)[1]["code"] for n in numbers]
        self.assertEqual(set(codes), {runners.TIMEOUT, runners.BUSY})
        self.assertLess(time.monotonic() - began, 6, "time was up for all of them together")
        self.assertEqual(self.call("echo", text="goes on"), (True, {"text": "goes on"}))

    def test_cancelled(self):
        number = self.runner.begin("hostile", "hang")
        self.runner.cancel(number)
        self.runner.cancel(number)
        self.assertEqual(self.call("echo", text="goes on"), (True, {"text": "goes on"}))
        self.assertNotIn(number, self.runner.answers)

    def test_a_tool_that_comes_later(self):
        self.assertEqual(self.call("grow"), (True, {"text": "grown"}))
        self.runner.wait_for_tool(
            "hostile", lambda t: "grown" in [c["name"] for c in t["callables"]])
        self.assertEqual(self.call("grown", text="x"), (True, {"text": "x"}))

    def test_nagging_about_changes_is_heard_now_and_then(self):
        before = int(self.call("listed")[1]["text"])
        changes = self.runner.changes
        self.assertEqual(self.call("nag", count=2000), (True, {"text": "nagged"}))
        after = int(self.call("listed")[1]["text"])
        self.assertLessEqual(after - before, 4)
        self.assertLessEqual(self.runner.changes - changes, 1)

    def test_it_sees_no_more_than_its_walls_let_it(self):
        seen = json.loads(self.call("variables")[1]["text"])
        self.assertEqual(set(seen) - {"LC_CTYPE"}, {"PATH", "LANG", "HOME", "TMPDIR", "TOKEN"})
        runner = self.runner.descendants()[0]
        for path in ("/etc/shadow", f"/proc/{runner}/environ", f"/proc/{runner}/maps",
                     str(self.runner.tools_dir / "hostile.yaml"), str(self.runner.work_dir)):
            self.assertIn(self.call("read", path=path)[1]["text"],
                          ("PermissionError", "FileNotFoundError"), path)
        for path in (str(self.runner.tools_dir / "x"), str(SERVERS / "x"), "/tmp/x",
                     str(self.runner.work_dir / "x")):
            self.assertEqual(self.call("write", path=path)[1]["text"], "PermissionError", path)
        self.assertEqual(self.call("write", path="own")[1]["text"], "4")

    def test_what_it_leaves_behind_goes_with_it(self):
        """Its children end with it, even those of a session of their own."""
        before = len(self.runner.descendants())
        self.assertEqual(self.call("leave_children"), (True, {"text": "left"}))
        self.assertGreater(len(self.runner.descendants()), before)
        self.assert_failed(self.call("die"), runners.UNAVAILABLE)
        self.settle()
        self.assertTrue(wait_until(lambda: len(self.runner.descendants()) <= before),
                        "processes are left")


class Life(unittest.TestCase):
    """Servers that come, go, and do not come at all."""

    def test_servers_that_never_get_ready(self):
        files = {f"{how}.yaml": stdio(how, how) for how in ("ended", "silent", "babbling")}
        files["missing.yaml"] = definition("missing", command="/nonexistent/server")
        files["secret.yaml"] = stdio("secret", env={"X": "${secret:unknown}"})
        files["good.yaml"] = stdio("good")
        with Runner(files) as r:
            r.wait_for_tool("good")
            self.assertIn("status 5", r.wait_for_problem("'ended'"))
            self.assertIn("/nonexistent/server", r.wait_for_problem("'missing'"))
            self.assertIn("unknown", r.wait_for_problem("'secret'"))
            for name in ("ended", "silent", "babbling", "missing"):
                self.assertIsNone(r.tool(name))
                ok, value = r.call(name, "echo", text="x")
                self.assertEqual((ok, value["code"]), (False, runners.UNAVAILABLE), value)
            self.assertEqual(r.call("good", "echo", text="x"), (True, {"text": "x"}))

    def test_a_listing_without_end_is_cut(self):
        with Runner({"endless.yaml": stdio("endless", "endless")}) as r:
            self.assertEqual(len(r.wait_for_tool("endless")["callables"]), 1000)

    def test_a_file_that_goes_takes_its_server_along(self):
        with Runner({"a.yaml": stdio("a"), "b.yaml": stdio("b", timeout=20)}) as r:
            r.wait_for_tool("a")
            r.wait_for_tool("b")
            hanging = r.begin("b", "hang")
            (r.tools_dir / "b.yaml").unlink()
            ok, value = r.result(hanging, 5)
            self.assertEqual((ok, value["code"]), (False, runners.UNAVAILABLE))
            self.assertTrue(wait_until(lambda: r.tool("b") is None))
            self.assertEqual(r.call("b", "echo", text="x")[1]["code"], runners.NOT_FOUND)
            self.assertEqual(r.call("a", "echo", text="x"), (True, {"text": "x"}))

    def test_a_server_that_ends_again_and_again_is_started_less_and_less(self):
        with Runner({"ended.yaml": stdio("ended", "ended")}) as r:
            time.sleep(6)
            starts = sum("mcp_server_down" in line for line in r.log)
            self.assertIn(starts, (2, 3))

    def test_the_end_of_the_runner_is_the_end_of_all(self):
        with Runner({"a.yaml": stdio("a")}) as r:
            r.wait_for_tool("a")
            r.call("a", "leave_children")
            r.begin("a", "hang")
            pids = r.descendants()
            self.assertGreater(len(pids), 2)
        self.assertEqual(r.status, 0)
        self.assertTrue(wait_until(lambda: not any(os.path.exists(f"/proc/{p}") for p in pids)))


if __name__ == "__main__":
    unittest.main()
