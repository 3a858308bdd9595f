"""`carrel approvals` against a real server: every verb, what a person sees at a terminal, and what
hostile code in a session can make of that."""

import contextlib
import json
import os
import pathlib
import re
import socket
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cli_test import OK, SERVER_SIDE, USAGE, USER, Cli  # noqa: E402

NOBODY = "00000000-0000-4000-8000-000000000000"
# What our own colours are; anything else after an escape is of others.
COLOUR = re.compile(rb"\x1b\[(0|1|2|31|32|33)m")
TOKENS = [{"name": "agent", "token": "agent-token", "role": "execute", "own_approvals": False},
          {"name": "reviewer", "token": "reviewer-token", "role": "review"},
          {"name": "blue", "token": "blue-token", "role": "execute", "prefix": "blue"}]
POOLS = [{"name": "default", "ready_sessions": 2}, {"name": "strict", "ready_sessions": 1}]
PAY = """
name: pay
approval: required
timeout: 5
command: echo
schema:
  positional:
    - {name: words, type: array}
recipes:
  send: {}
"""


class ApprovalsCli(Cli):
    config = {"pools": POOLS, "auth": {"tokens": TOKENS}}

    def tearDown(self):
        for state in ("waiting", "queued", "running"):
            listed = self.server.request("GET", "approvals", api_version=None, state=state).json()
            for one in listed["approvals"]:
                self.server.request("DELETE", f"approvals/{one['id']}", api_version=None)
        super().tearDown()

    def approvals(self, *words, **options):
        return self.run_cli("approvals", *words, **options)

    def submit(self, code, *words, **options):
        out, err = self.approvals("submit", "-c", code, *words, **options)
        self.assertRegex(out, r"\A[0-9a-f-]{36}\n\Z")
        self.assertEqual(err, "")
        return out.strip()

    def get(self, approval):
        reply = self.server.request("GET", f"approvals/{approval}", api_version=None)
        self.assertEqual(reply.status, 200, reply)
        return reply.json()

    def wait_for(self, approval, *states):
        def look():
            shown = self.get(approval)
            return shown if shown["state"] in states else None
        return self.wait_until(look, f"none of {states}", 20)

    def drained(self, terminal):
        """All that a terminal showed until its program's end."""
        status = terminal.end()
        with contextlib.suppress(OSError):  # that nobody has the other end open any more
            while piece := os.read(terminal.fd, 65536):
                terminal.seen += piece
        return status, terminal.seen


class Verbs(ApprovalsCli):
    def test_where_code_comes_from(self):
        pathlib.Path(self.cwd, "job.py").write_text("\ufeff'from a file'\n")
        one = self.approvals("submit", "job.py", "--policy", "before")[0].strip()
        self.assertEqual(self.get(one)["code"], "'from a file'\n")
        one = self.approvals("submit", "-", stdin=b"'typed'")[0].strip()
        self.assertEqual(self.get(one)["code"], "'typed'")
        one = self.submit("'given'", "--policy", "before", "--deadline", "2h", "-t", "90s")
        shown = self.get(one)
        self.assertEqual((shown["code"], shown["policy"]), ("'given'", "before"))
        self.assertEqual(shown["settings"]["deadline_seconds"], 7200)
        self.assertEqual(shown["settings"]["timeout_seconds"], 90)
        _, err = self.approvals("submit", "none.py", status=USER)
        self.assertIn("none.py", err)
        _, err = self.approvals("submit", "-", stdin=b"'\xff'", status=USAGE)
        self.assertIn("UTF-8", err)

    def test_what_follows_is_asked_for(self):
        one = self.submit("1", "--policy", "before", "--promote", "*.pdf", "a b.csv",
                          "--promote-prefix", "reports/")
        self.assertEqual(self.get(one)["settings"]["promote"],
                         {"files": ["*.pdf", "a b.csv"], "prefix": "reports/"})
        self.assertIn("*.pdf", self.approvals("show", one)[0])
        _, err = self.approvals("submit", "-c", "1", "--callback", "https://x.example/",
                                status=SERVER_SIDE)
        self.assertIn("callback", err)

    def test_a_key_is_submitted_once(self):
        first = self.submit("1", "--key", self.session)
        self.assertEqual(self.submit("1", "--key", self.session), first)
        _, err = self.approvals("submit", "-c", "2", "--key", self.session, status=SERVER_SIDE)
        self.assertIn("ApprovalConflict", err)
        _, err = self.approvals("submit", "-c", "2", "--key", "a\r\nX-Evil: 1", status=USAGE)
        self.assertIn("--key", err)

    def test_waiting_for_the_end(self):
        out, _ = self.approvals("submit", "-c", "print('shown'); 40 + 2", "--policy", "rules",
                                "--wait")
        self.assertIn("      | shown\n", out)
        self.assertIn("      | 42\n", out)
        out, _ = self.approvals("submit", "-c", "6 * 7", "--policy", "rules", "--wait", "-o",
                                "json")
        self.assertEqual(json.loads(out)["result"]["value"], 42)
        self.approvals("submit", "-c", "1", "--deadline", "1s", "--wait", status=USER)

    def test_lists(self):
        waits = self.submit("1", "--policy", "before")
        done = self.submit("1", "--policy", "rules")
        self.wait_for(done, "approved")
        out, _ = self.approvals("ls")
        line = next(line for line in out.splitlines() if line.startswith(waits))
        self.assertRegex(line, r"waiting \(code\) +before +by CONTAINER_AUTH_TOKEN, (now|\d+ s ago), "
                               r"expires in 24 h")
        self.assertNotIn(done, out)
        self.assertIn(done, self.approvals("ls", "--all")[0])
        out, _ = self.approvals("ls", "--state", "approved", "-o", "json")
        listed = json.loads(out)["approvals"]
        self.assertIn(done, [one["id"] for one in listed])
        self.assertEqual({one["state"] for one in listed}, {"approved"})
        self.assertEqual(self.approvals("ls", "--kind", "call"), ("", ""))
        _, err = self.approvals("ls", "--state", "done", status=SERVER_SIDE)
        self.assertIn("waiting", err)

    def test_more_than_a_page(self):
        made = {self.server.request("POST", "approvals", body={"code": "1", "policy": "before"},
                                    api_version=None,
                                    headers={"Authorization": "Bearer blue-token"}).json()["id"]
                for _ in range(205)}
        out, _ = self.approvals("ls", CARREL_TOKEN="blue-token")
        self.assertEqual({line.split()[0] for line in out.splitlines()}, made)

    def test_what_is_shown(self):
        one = self.submit("import sys\nprint('out')\nprint('bad', file=sys.stderr)\n1 / 0",
                          "--deadline", "3h")
        self.wait_for(one, "waiting")
        out, _ = self.approvals("show", one)
        for line in (f"approval {one}", "  state     waiting (result)",
                     "    1 + import sys", "    4 + 1 / 0", "      | out", "      ! bad",
                     "error ZeroDivisionError"):
            self.assertIn(line, out.splitlines())
        self.assertRegex(out, r"deadline  in 3 h \(2")
        self.assertRegex(out, r"\n    1   2\S+Z  submitted by CONTAINER_AUTH_TOKEN")
        self.assertNotIn("\x1b", out)
        self.assertEqual(json.loads(self.approvals("show", one, "-o", "json")[0])["id"], one)

    def test_displays_by_type_and_size(self):
        one = self.submit("class Picture:\n    def _repr_png_(self): return b'\\x89PNG' * 300\n"
                          "    def _repr_html_(self): return '<b>' * 4\nPicture()")
        shown = self.wait_for(one, "waiting")
        out, _ = self.approvals("show", one)
        self.assertTrue(shown["result"]["displays"], shown["result"])
        self.assertRegex(out, r"    1 \| .*image/png 1\.2 KiB")
        self.assertRegex(out, r"    1 \| .*text/html 12 B")

    def test_decisions(self):
        one = self.submit("1", "--policy", "both")
        _, err = self.approvals("approve", one, status=SERVER_SIDE)
        self.assertIn("stage", err)
        out, _ = self.approvals("approve", one, "--stage", "code", "--by", "Ada", "--reason",
                                "read it")
        self.assertRegex(out, rf"\A{one} (queued|running)\n\Z")
        self.wait_for(one, "waiting")
        out, _ = self.approvals("reject", one[:13], "--stage", "result", "--reason", "no\nway",
                                CARREL_TOKEN="reviewer-token")
        self.assertEqual(out, f"{one} rejected\n")
        first, second = self.get(one)["decisions"]
        self.assertEqual((first["person"], first["reason"]), ("Ada", "read it"))
        self.assertEqual((second["by"], second["reason"]), ("reviewer", "no\nway"))
        # The same again is fine; the other one is told who decided what, when and why.
        self.approvals("reject", one, "--stage", "result")
        out, err = self.approvals("approve", one, "--stage", "result", "-o", "json",
                                  status=SERVER_SIDE)
        self.assertRegex(err, r"ApprovalConflict: .*rejected by the token reviewer, 2\S+Z: "
                              r"no\\u000away\) \(HTTP 409\)\n\Z")
        self.assertEqual(json.loads(out)["error"]["httpStatus"], 409)

    def test_cancelling(self):
        one = self.submit("1", "--policy", "before")
        out, _ = self.approvals("cancel", one, "--reason", "not needed")
        self.assertEqual(out, f"{one} cancelled\n")
        self.approvals("cancel", one)
        _, err = self.approvals("approve", one, status=SERVER_SIDE)
        self.assertRegex(err, r"it is cancelled since 2\S+Z")

    def test_ids_may_be_shortened(self):
        one = self.submit("1", "--policy", "before")
        others = [self.submit("1", "--policy", "before") for _ in range(3)]
        length = next(n for n in range(4, 36) if not any(o.startswith(one[:n]) for o in others))
        self.assertIn(one, self.approvals("show", one[:length])[0])
        _, err = self.approvals("show", NOBODY, status=SERVER_SIDE)
        self.assertIn("ApprovalNotFound", err)
        _, err = self.approvals("show", "zzzz", status=SERVER_SIDE)
        self.assertIn("no approval whose id begins with zzzz", err)
        for wrong in (one[:3], "../x", "a b c d", "x" * 64):
            self.approvals("approve", wrong, status=USAGE)

    def test_a_pool_and_a_tenant_have_their_own(self):
        out, _ = self.approvals("submit", "-c", "1", "--policy", "before", "--pool", "strict")
        self.assertEqual(self.get(out.strip())["pool"], "strict")
        self.approvals("show", out.strip(), status=SERVER_SIDE, CARREL_TOKEN="blue-token")
        _, err = self.approvals("show", out[:8], status=SERVER_SIDE, CARREL_TOKEN="blue-token")
        self.assertIn("no approval", err)

    def test_who_may_not(self):
        one = self.submit("1", "--policy", "before", CARREL_TOKEN="agent-token")
        _, err = self.approvals("approve", one, status=SERVER_SIDE, CARREL_TOKEN="agent-token")
        self.assertIn("Forbidden", err)
        self.assertEqual(self.get(one)["state"], "waiting")
        self.approvals("submit", "-c", "1", status=SERVER_SIDE, CARREL_TOKEN="reviewer-token")

    def test_wrong_use(self):
        for words in ([], ["frobnicate"], ["show"], ["show", "a", "b"], ["approve"], ["ls", "x"],
                      ["ls", "--reason", "x"], ["show", "abcd", "--wait"], ["submit"],
                      ["submit", "-c", "1", "x"], ["submit", "-c", "1", "--promote-prefix", "x"],
                      ["submit", "-c", "1", "--deadline", "soon"],
                      ["submit", "-c", "1", "--deadline", "0"],
                      ["submit", "-c", "1", "--deadline", "99999999999d"],
                      ["approve", "abcd", "--policy", "after"]):
            with self.subTest(words=words):
                out, err = self.approvals(*words, status=USAGE)
                self.assertEqual(out, "")
                self.assertTrue(err)
        out, _ = self.run_cli("help", "approvals")
        for word in ("submit", "watch", "--promote-prefix", "--stage"):
            self.assertIn(word, out)


class Following(ApprovalsCli):
    def test_one_until_it_is_final(self):
        one = self.submit("1", "--policy", "before")
        process = self.start("approvals", "watch", one[:13])
        self.assertIn(b"submitted", process.stdout.readline())
        self.assertIn(b"waiting by server, stage code", process.stdout.readline())
        self.approvals("approve", one, "--by", "Ada")
        rest, err = process.communicate(timeout=20)
        kinds = [line.split()[2] for line in rest.decode().splitlines()]
        self.assertEqual(kinds, ["decided", "run_started", "run_finished", "approved"])
        self.assertEqual((process.returncode, err), (OK, b""))
        out, _ = self.approvals("watch", one, "-o", "json")
        self.assertEqual([json.loads(line)["seq"] for line in out.splitlines()],
                         list(range(1, 7)))
        other = self.submit("1", "--policy", "before")
        self.approvals("reject", other)
        self.approvals("watch", other, status=USER)
        self.approvals("watch", NOBODY, status=SERVER_SIDE)

    def test_what_waits_as_it_comes(self):
        process = self.start("approvals", "watch", "-o", "json")
        one = self.submit("'first'", "--policy", "both")
        shown = json.loads(process.stdout.readline())
        self.assertEqual((shown["id"], shown["stage"], shown["code"]), (one, "code", "'first'"))
        self.approvals("approve", one, "--stage", "code")
        shown = json.loads(process.stdout.readline())
        self.assertEqual((shown["id"], shown["stage"]), (one, "result"))
        process.kill()

    def test_a_stream_that_breaks_is_taken_up_where_it_broke(self):
        """A proxy between them that cuts each stream after its first event."""
        one = self.submit("1", "--policy", "before")
        self.approvals("reject", one)
        with Cutter(self.server.port) as cutter:
            out, _ = self.approvals("watch", one, status=USER, CARREL_URL=cutter.url)
        self.assertGreater(cutter.cut, 1)
        self.assertEqual([int(line.split()[0]) for line in out.splitlines()], [1, 2, 3, 4])


class Cutter:
    """A proxy for one request a connection, which ends a stream of events after the first one."""

    def __init__(self, port):
        self.port = port
        self.cut = 0
        self.down = False  # closes each connection at once

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.down:
                client.close()
                continue
            with client, socket.create_connection(("127.0.0.1", self.port)) as server:
                request = client.recv(65536)
                head, _, body = request.partition(b"\r\n\r\n")
                server.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
                self.answer(client, server)

    def answer(self, client, server):
        data = b""
        while piece := server.recv(65536):
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        if b"text/event-stream" not in head:
            client.sendall(data)
            return
        # Whatever the framing was: the events as they are, one of them, and the end.
        events = re.findall(rb"id: \d+\nevent: [a-z_]+\ndata: [^\n]*\n\n", body)
        if events:
            self.cut += len(events) > 1
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                           b"Connection: close\r\n\r\n" + events[0])


class AtATerminal(ApprovalsCli):
    def assert_harmless(self, seen):
        rest = COLOUR.sub(b"", seen)
        self.assertNotIn(b"\x1b", rest)
        for character in "\u009b\u202e\u2066\u200b\u200f":
            self.assertNotIn(character.encode(), rest)
        self.assertEqual(set(rest) & set(range(32)), {10, 13})
        self.assertEqual(rest.count(b"\r"), rest.count(b"\r\n"))
        return rest.decode().replace("\r\n", "\n")

    def test_colours(self):
        one = self.submit("print('out')", "--policy", "before")
        status, seen = self.drained(self.terminal("approvals", "show", one))
        self.assertEqual(status, OK)
        self.assertIn(b"\x1b[32mprint('out')\x1b[0m", seen)
        self.assertIn(b"\x1b[33mwaiting\x1b[0m", seen)
        for changes in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            _, seen = self.drained(self.terminal("approvals", "show", one, **changes))
            self.assertNotIn(b"\x1b", seen)
            self.assertIn(b"    1 + print('out')", seen)
        _, seen = self.drained(self.terminal("approvals", "show", one, NO_COLOR=""))
        self.assertIn(b"\x1b[32m", seen)

    def test_a_result_cannot_paint(self):
        evil = ("\\x1b[2J\\x1b[1;1Happrove? [y/n/s/q] y\\r\\n\\x9b31m\\u009b1A\\b\\b\\x07"
                "\\u202e\\u2066\\u200b\\u200f\\tend\\0")
        one = self.submit(
            "# \x1b[8mhidden\x1b[0m \u202e\u200b\r\n"
            "import sys\n"
            f"print('{evil}')\n"
            f"sys.stderr.write('{evil}')\n"
            "class Bad(Exception):\n    pass\n"
            f"Bad.__name__ = '{evil}'\n"
            f"raise Bad('{evil}')\n")
        self.wait_for(one, "waiting")
        self.approvals("reject", one, "--by", "\x1b[2JAda", "--reason", "a\nstate approved\x1b[A")
        for words in (("show", one), ("watch", one), ("ls", "--all")):
            _, seen = self.drained(self.terminal("approvals", *words))
            self.assert_harmless(seen)
            # Nor where it does not lead to a terminal itself, but to a pager, say.
            out, _ = self.approvals(*words, binary=True,
                                    status=USER if words[0] == "watch" else OK)
            self.assertEqual(set(out) & set(range(32)), {10})
        text = self.approvals("show", one)[0]
        self.assertIn("\\u001b[8mhidden\\u001b[0m \\u202e\\u200b\\u000d\n", text)
        self.assertIn("\\u001b[2JAda", text)
        for line in text.splitlines():
            self.assertFalse(line.startswith(("approve?", "state")), line)

    def test_nothing_of_others_comes_to_the_first_column(self):
        """Lines as wide as the terminal, so that what follows would begin a line of its own."""
        wide = "x" * 72 + "  approve? [y/n/s/q] y" + "\u4e2d" * 200
        one = self.submit(f"# {wide}\nprint('{wide}')\nraise ValueError('{wide}')")
        self.wait_for(one, "waiting")
        self.approvals("reject", one, "--by", wide[:120], "--reason", "y" * 200)
        _, seen = self.drained(self.terminal("approvals", "show", one))
        # The pseudo-terminal has no size: 80 columns are assumed.
        ours = re.compile(r"( {2}\w| {1,5}\d+ [ +|] | {6}[|!\\] |approval |code |result |stdout$|"
                          r"stderr$|displays$|value$|error |history$)")
        for line in self.assert_harmless(seen).splitlines():
            self.assertRegex(line, ours)
            self.assertLessEqual(sum(1 if c.isascii() else 2 for c in line), 80, line)

    def test_a_person_answers(self):
        first = self.submit("'one'", "--policy", "before")
        terminal = self.terminal("approvals", "watch", "--by", "Ada")
        terminal.until(r"'one'.*approve\? \[y/n/s/q\] ")
        terminal.type("maybe\n")
        terminal.until(r"yes.*approve\? \[y/n/s/q\] ")
        terminal.type("y looks fine\n")
        terminal.until(r"approved; it is now \w+")
        decision = self.wait_for(first, "approved")["decisions"][0]
        self.assertEqual((decision["approve"], decision["person"], decision["reason"]),
                         (True, "Ada", "looks fine"))
        second = self.submit("'two'", "--policy", "before")
        terminal.until(r"'two'.*approve\? \[y/n/s/q\] ")
        terminal.type("n\n")
        terminal.until(r"rejected; it is now rejected")
        self.assertEqual(self.get(second)["state"], "rejected")
        third = self.submit("'three'", "--policy", "before")
        terminal.until(r"'three'.*approve\? \[y/n/s/q\] ")
        terminal.type("s\n")
        fourth = self.submit("'four'", "--policy", "before")
        terminal.until(r"'four'.*approve\? \[y/n/s/q\] ")
        terminal.type("q\n")
        self.assertEqual(terminal.end(), OK)
        self.assertEqual({self.get(one)["state"] for one in (third, fourth)}, {"waiting"})

    def test_both_stages_are_asked(self):
        one = self.submit("6 * 7", "--policy", "both")
        terminal = self.terminal("approvals", "watch")
        terminal.until(r": code of CONTAINER_AUTH_TOKEN.*approve\? \[y/n/s/q\] ")
        terminal.type("y\n")
        terminal.until(r"      \S*\| \S*42.*: result of .*approve\? \[y/n/s/q\] ")
        terminal.type("n\n")
        terminal.until("rejected")
        self.assertEqual([(d["stage"], d["approve"]) for d in self.get(one)["decisions"]],
                         [("code", True), ("result", False)])
        terminal.type("q\n")
        self.assertEqual(terminal.end(), OK)

    def test_what_was_typed_before_the_question_is_no_answer(self):
        made = [self.submit(str(n), "--policy", "before") for n in range(2)]
        terminal = self.terminal("approvals", "watch")
        terminal.until(r"approve\? \[y/n/s/q\] ")
        terminal.type("y\ny\ny\n")
        terminal.until(r"approve\? \[y/n/s/q\] ")
        self.wait_for(made[0], "approved")
        # Answers are taken in their order: an earlier y would have been before this.
        terminal.type("n\n")
        terminal.until("rejected")
        self.assertEqual(self.get(made[1])["state"], "rejected")
        terminal.type("\x04")
        self.assertEqual(terminal.end(), OK)

    def test_a_server_that_is_away_for_a_while(self):
        self.submit("'skipped'", "--policy", "before")
        with Cutter(self.server.port) as proxy:
            terminal = self.terminal("approvals", "watch", CARREL_URL=proxy.url)
            terminal.until(r"approve\? \[y/n/s/q\] ")
            terminal.type("s\n")
            proxy.down = True
            terminal.until("trying again")
            second = self.submit("'new'", "--policy", "before")
            proxy.down = False
            terminal.until(r"'new'.*approve\? \[y/n/s/q\] ")
            # An answer that does not get through is asked for again.
            proxy.down = True
            terminal.type("y\n")
            terminal.until("trying again")
            proxy.down = False
            terminal.until(r"'new'.*approve\? \[y/n/s/q\] ")
            terminal.type("y\n")
            terminal.until("approved; it is now")
            terminal.type("q\n")
            self.assertEqual(terminal.end(), OK)
        self.wait_for(second, "approved")
        self.assertEqual(terminal.seen.count(b"'skipped'"), 1)

    def test_another_was_faster(self):
        one = self.submit("1", "--policy", "before")
        terminal = self.terminal("approvals", "watch")
        terminal.until(r"approve\? \[y/n/s/q\] ")
        self.approvals("reject", one, CARREL_TOKEN="reviewer-token")
        terminal.type("y\n")
        terminal.until(r"rejected by the token reviewer")
        self.assertEqual(self.get(one)["state"], "rejected")
        terminal.type("q\n")
        self.assertEqual(terminal.end(), OK)

    def test_without_a_terminal_nothing_is_asked(self):
        one = self.submit("1", "--policy", "before")
        process = self.start("approvals", "watch")
        while b"history" not in process.stdout.readline():
            pass
        process.kill()
        self.assertNotIn(b"approve?", process.stdout.read())
        self.assertEqual(self.get(one)["state"], "waiting")

    def test_much_output_leaves_the_question_in_sight(self):
        self.submit("print('\\n'.join(map(str, range(100000))))")
        terminal = self.terminal("approvals", "watch")
        terminal.until(r"99940 lines are not shown here.*99999.*approve\? \[y/n/s/q\] ")
        self.assertLess(len(terminal.seen), 20000)
        terminal.type("q\n")
        self.assertEqual(terminal.end(), OK)


class Calls(ApprovalsCli):
    @classmethod
    def setUpClass(cls):
        cls.tools = tempfile.TemporaryDirectory(prefix="carrel-tools-")
        cls.addClassCleanup(cls.tools.cleanup)
        base = pathlib.Path(cls.tools.name)
        base.chmod(0o755)
        (base / "pay.yaml").write_text(PAY)
        cls.config = {"code_mode": {"tools": {"dir": cls.tools.name}},
                      "auth": {"tokens": TOKENS}}
        super().setUpClass()

    def test_a_call_is_shown_with_its_arguments_and_answered(self):
        replies = []
        code = "tools.pay(words=['100\\x1b[2J', 'EUR'])"
        thread = threading.Thread(target=lambda: replies.append(
            self.server.request("POST", "executions", self.session, {"code": code}).json()))
        thread.start()
        self.addCleanup(thread.join)
        terminal = self.terminal("approvals", "watch")
        terminal.until(r"call \S*pay.*arguments.*100\\u001[bB]\[2J.*EUR.*: call of "
                       r"CONTAINER_AUTH_TOKEN.*approve\? \[y/n/s/q\] ")
        self.assertIn("pay", self.approvals("ls", "--kind", "call")[0])
        terminal.type("y\n")
        terminal.until("approved; it is now approved")
        thread.join(20)
        self.assertIn("EUR", json.dumps(replies))
        terminal.type("q\n")
        self.assertEqual(terminal.end(), OK)


if __name__ == "__main__":
    unittest.main()
