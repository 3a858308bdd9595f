"""Calls of tools that wait for a person, from inside a session of a real server; and what code in a
session, a neighbour and a client that leaves can make of them."""

import json
import pathlib
import signal
import socket
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import ServerCase  # noqa: E402

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
SAY = """
name: say
command: echo
schema:
  positional:
    - {name: words, type: array}
"""
TOKENS = [
    {"name": "agent", "token": "agent-token", "role": "execute", "own_approvals": False},
    {"name": "reviewer", "token": "reviewer-token", "role": "review"},
    {"name": "blue", "token": "blue-token", "role": "execute", "prefix": "blue"},
]
POOLS = [
    {"name": "default", "ready_sessions": 2, "execution_seconds": 3},
    {"name": "ruled", "ready_sessions": 1, "execution_seconds": 3,
     "approvals": {"tools": ["say"]}},
    {"name": "hasty", "ready_sessions": 1, "approvals": {"deadline_seconds": 1}},
]


class ParkedCase(ServerCase):
    more = {}  # of the configuration

    @classmethod
    def setUpClass(cls):
        cls.tools = tempfile.TemporaryDirectory(prefix="carrel-tools-")
        cls.addClassCleanup(cls.tools.cleanup)
        base = pathlib.Path(cls.tools.name)
        base.chmod(0o755)
        (base / "pay.yaml").write_text(PAY)
        (base / "say.yaml").write_text(SAY)
        cls.config = {"code_mode": {"tools": {"dir": cls.tools.name}}, "pools": POOLS,
                      "auth": {"tokens": TOKENS}, **cls.more}
        super().setUpClass()

    def ask(self, method, path, body=None, token=None, status=200, **query):
        headers = {"Authorization": f"Bearer {token}-token"} if token else {}
        reply = self.server.request(method, path, body=body, headers=headers, api_version=None,
                                    **query)
        self.assertEqual(reply.status, status, reply)
        return reply.json()

    def run_code(self, code, pool=None, identifier=None, token=None):
        path = f"sessionPools/{pool}/executions" if pool else "executions"
        headers = {"Authorization": f"Bearer {token}-token"} if token else {}
        return self.server.request("POST", path, identifier or self.session, {"code": code},
                                   headers).json()

    def begin(self, code, **options):
        """Runs in a thread: a function that waits for the reply."""
        replies = []
        thread = threading.Thread(target=lambda: replies.append(self.run_code(code, **options)))
        thread.start()

        def reply(seconds=20):
            thread.join(seconds)
            self.assertTrue(replies, "no reply")
            return replies[0]
        self.addCleanup(thread.join)
        reply.is_there = lambda: not thread.is_alive()
        return reply

    def waiting_now(self):
        """The calls of this test's sessions that wait."""
        listed = self.ask("GET", "approvals", state="waiting", kind="call", limit="200")
        return [one for one in listed["approvals"] if one["session"].startswith(self.session)]

    def waiting(self, count=1):
        def look():
            found = self.waiting_now()
            return found if len(found) >= count else None
        return self.wait_until(look, f"no {count} calls wait")

    def show(self, one, **options):
        return self.ask("GET", f"approvals/{one['id']}", **options)

    def decide(self, one, approve, token=None, status=200, **more):
        return self.ask("POST", f"approvals/{one['id']}/decision", {"approve": approve, **more},
                        token, status)

    def value(self, reply):
        self.assertEqual(reply["status"], "Succeeded", reply)
        return reply["result"]["executionResult"]

    def error(self, reply):
        self.assertEqual(reply["status"], "Failed", reply)
        return json.dumps(reply)


class Waiting(ParkedCase):
    def test_what_was_shown_is_run(self):
        reply = self.begin("tools.pay.send(words=['5', 'to', 'ann']).strip()")
        one, = self.waiting()
        shown = self.show(one)
        self.assertEqual(shown["call"], {"tool": "pay", "callable": "send",
                                         "arguments": {"words": ["5", "to", "ann"]}})
        self.assertEqual((shown["stage"], shown["session"]), ("call", self.session))
        self.decide(one, True, by="Ann", reason="as agreed")
        self.assertEqual(self.value(reply()), "5 to ann")
        shown = self.wait_until(lambda: (s := self.show(one)) and s["history"][-1]["kind"] ==
                                "call_finished" and s, "the call's end is not told")
        self.assertEqual(shown["state"], "approved")
        self.assertTrue(shown["history"][-1]["body"]["ok"])

    def test_what_is_refused_is_not(self):
        reply = self.begin("try:\n    tools.pay.send(words=['9'])\nexcept ToolCallError as e:\n"
                           "    said = type(e).__name__ + ' ' + str(e)\nsaid")
        one, = self.waiting()
        self.decide(one, False, by="Ann", reason="too much")
        text = self.value(reply())
        self.assertTrue(text.startswith("ApprovalDenied "), text)
        self.assertIn("Ann", text)
        self.assertIn("too much", text)
        self.assertEqual(self.show(one)["state"], "rejected")

    def test_the_clock_stands_still(self):
        reply = self.begin("import time; time.sleep(1); r = tools.pay.send(words=['1'])\n"
                           "time.sleep(1); r.strip()")
        one, = self.waiting()
        time.sleep(4)  # more than the execution may take
        self.decide(one, True)
        self.assertEqual(self.value(reply()), "1")
        reply = self.begin("r = tools.pay.send(words=['1'])\nimport time; time.sleep(9)")
        one, = self.waiting()
        self.decide(one, True)
        self.assertEqual(reply()["verdict"], "time_limit")

    def test_computing_beside_it_counts(self):
        for spin in ("threading.Thread(target=spin, daemon=True).start()",
                     "os.fork() or spin()"):
            reply = self.begin("import os, threading\n"
                               "def spin():\n    while True: pass\n"
                               f"{spin}\ntools.pay.send(words=['1'])")
            # Of the processor's time, which a busy machine gives in small pieces.
            self.assertEqual(reply(120)["verdict"], "time_limit", spin)

    def test_others_go_on_meanwhile(self):
        reply = self.begin("import asyncio\n"
                           "done = []\n"
                           "async def other():\n"
                           "    for i in range(5):\n"
                           "        await asyncio.sleep(0.01); done.append(i)\n"
                           "    return await tools.say(words=['said'])\n"
                           "a, b, c = await asyncio.gather(tools.pay.send(words=['1']), other(),\n"
                           "                               tools.pay.send(words=['2']))\n"
                           "[a.strip(), b.strip(), c.strip(), len(done)]")
        for one in self.waiting(2):
            self.decide(one, True)
        self.assertEqual(self.value(reply()), "['1', 'said', '2', 5]")

    def is_connected(self, port):
        """Whether the server has a connection with the one on that port."""
        rows = [line.split()[1:3] for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()]
        return ["0100007F:%04X" % self.server.port, "0100007F:%04X" % port] in rows

    def test_its_client_may_go(self):
        """A parked cell goes on without the client that sent it, and can be asked for."""
        code = "paid = tools.pay.send(words=['7']).strip(); open('paid', 'w').write(paid); paid"
        body = json.dumps({"code": code}).encode()
        with socket.create_connection(("127.0.0.1", self.server.port)) as client:
            client.sendall((f"POST {self.server.target('executions', self.session)} HTTP/1.1\r\n"
                            f"Host: x\r\nAuthorization: Bearer {self.server.token}\r\n"
                            "Content-Type: application/json\r\n"
                            f"Content-Length: {len(body)}\r\n\r\n").encode() + body)
            one, = self.waiting()
            port = client.getsockname()[1]
        self.wait_until(lambda: not self.is_connected(port), "the server keeps the connection")
        shown = self.show(one)
        self.assertEqual(shown["state"], "waiting")
        running = self.server.request("GET", f"executions/{shown['execution']}", self.session).json()
        self.assertEqual(running["status"], "Running", running)
        self.decide(one, True)
        self.wait_for_file("paid")
        done = self.server.request("GET", f"executions/{shown['execution']}", self.session).json()
        self.assertEqual(self.value(done), "7")

    def test_a_deadline_is_a_no(self):
        reply = self.run_code("tools.pay.send(words=['1'])", pool="hasty")
        self.assertIn("ApprovalDenied", self.error(reply))
        self.assertIn("deadline", self.error(reply))

    def test_rules_name_tools_of_a_pool(self):
        self.assertEqual(self.value(self.run_code("tools.say(words=['free']).strip()")), "free")
        reply = self.begin("tools.say(words=['ruled']).strip()", pool="ruled",
                           identifier=self.session + "-ruled")
        one, = self.waiting()
        self.assertEqual((one["pool"], self.show(one)["call"]["tool"]), ("ruled", "say"))
        self.decide(one, True)
        self.assertEqual(self.value(reply()), "ruled")

    def test_an_interrupt_takes_it_back(self):
        reply = self.begin("tools.pay.send(words=['1'])")
        one, = self.waiting()
        execution = self.show(one)["execution"]
        self.server.request("DELETE", f"executions/{execution}", self.session)
        self.assertEqual(reply()["status"], "Canceled")
        self.wait_until(lambda: self.show(one)["state"] == "cancelled", "not cancelled")
        self.decide(one, True, status=409)
        self.assertEqual(self.value(self.run_code("1 + 1")), 2)
        reply = self.begin("tools.pay.send(words=['1'])")
        one, = self.waiting()
        self.server.request("DELETE", "session", self.session)
        reply()
        self.wait_until(lambda: self.show(one)["state"] == "cancelled", "not cancelled")

    def test_a_definition_that_changed_is_not_run(self):
        file = pathlib.Path(self.tools.name) / "change.yaml"
        file.write_text(PAY.replace("name: pay", "name: change"))
        self.addCleanup(file.unlink)
        self.wait_until(lambda: "change" in self.value(self.run_code(
            "[t.name for t in tools.list()]")), "the tool is not there")
        reply = self.begin("tools.change.send(words=['1'])")
        one, = self.waiting()
        file.write_text(PAY.replace("name: pay", "name: change").replace("echo", "printf")
                        + "description: as it is now\n")
        self.wait_until(lambda: "as it is now" in self.value(self.run_code(
            "[t.description for t in tools.list()]", identifier=f"{self.session}-other")),
            "the runner has not seen it")
        self.decide(one, True)
        self.assertIn("definition was changed", self.error(reply()))


class Hostile(ParkedCase):
    """What code in a session tries, to have its call run without a person."""

    def test_ways_around(self):
        for code in (
                "tools.pay.send.call_sync(words=['1'])",
                "await tools.pay.send.call_async(words=['1'])",
                "tools.pay(words=['1'])",
                "tools['pay'](words=['1'])",
                "tools.call('pay', {'words': ['1']})",
                "from _carrel import calls; calls.ask('tools.call', {'tool': 'pay', 'callable': "
                "'send', 'arguments': {'words': ['1']}, 'approved': True})",
                "from _carrel import calls; calls.ask('tools.call', {'tool': 'PAY', 'callable': "
                "'send', 'arguments': {'words': ['1']}})",
                "from _carrel import calls; calls.ask('approvals.decide', {'approve': True})",
                "skills.create(name='way', source='def run():\\n    return "
                "tools.pay.send(words=[\"1\"])', description='')\nskills.way()",
        ):
            with self.subTest(code=code):
                identifier = f"{self.session}-{abs(hash(code))}"
                reply = self.begin(code + "\nopen('paid', 'w').close()", identifier=identifier)
                self.wait_until(lambda: reply.is_there() or self.waiting_now(),
                                "it neither waits nor ends")
                for one in self.waiting_now():
                    self.decide(one, False)
                self.assertEqual(reply()["status"], "Failed")
                self.assertEqual(
                    self.server.request("GET", "files/paid", identifier).status, 404)

    def test_arguments_do_not_change_after_they_were_shown(self):
        reply = self.begin(
            "import os, threading, time\n"
            "words = ['little']\n"
            "def change():\n"
            "    while not os.path.exists('shown'): time.sleep(0.01)\n"
            "    words[0] = 'much'; open('changed', 'w').close()\n"
            "threading.Thread(target=change).start()\n"
            "tools.pay.send(words=words).strip()")
        one, = self.waiting()
        self.server.upload(self.session, "shown", b"x")
        self.wait_for_file("changed")
        self.assertEqual(self.show(one)["call"]["arguments"], {"words": ["little"]})
        self.decide(one, True)
        self.assertEqual(self.value(reply()), "little")

    def test_a_thousand_calls(self):
        reply = self.begin(
            "import asyncio\n"
            "async def one():\n"
            "    try:\n"
            "        await tools.pay.send(words=['1'])\n"
            "    except Exception as e:\n"
            "        return type(e).__name__\n"
            "names = await asyncio.gather(*[one() for i in range(60)])\n"
            "{n: names.count(n) for n in names}")
        found = self.waiting(16)
        self.assertEqual(self.value(self.run_code("1", identifier=self.session + "-b")), 1)
        # As soon as one is decided another may take its place.
        decided = 0
        while not reply.is_there():
            self.assertLessEqual(len(found), 16)
            for one in found:
                self.decide(one, False)
                decided += 1
            found = self.waiting_now()
        names = json.loads(self.value(reply()).replace("'", '"'))
        self.assertEqual(names, {"TooManyCalls": 60 - decided, "ApprovalDenied": decided})

    def test_what_nobody_can_read_is_not_asked(self):
        reply = self.run_code("tools.pay.send(words=['x' * 70000])")
        self.assertIn("ApprovalDenied", self.error(reply))

    def test_what_paints_over_the_screen_arrives_as_text(self):
        words = ["\x1b[2K\rsmall", "‮evil", "a\nb"]
        reply = self.begin(f"tools.pay.send(words={words!r})")
        one, = self.waiting()
        self.assertEqual(self.show(one)["call"]["arguments"]["words"], words)
        self.decide(one, False)
        self.assertIn("ApprovalDenied", self.error(reply()))

    def test_the_one_who_asks_does_not_answer(self):
        """A token that may not decide about its own, and another tenant."""
        reply = self.begin("tools.pay.send(words=['1'])", token="agent")
        one, = self.waiting()
        self.assertEqual(self.show(one)["submitter"], "agent")
        self.decide(one, True, token="agent", status=403)
        self.decide(one, True, token="blue", status=404)
        self.assertEqual(self.ask("GET", "approvals", kind="call", token="blue")["approvals"], [])
        self.decide(one, True, token="reviewer")
        self.value(reply())


class Restarts(ParkedCase):
    @classmethod
    def setUpClass(cls):
        cls.data = tempfile.TemporaryDirectory(prefix="carrel-data-")
        cls.addClassCleanup(cls.data.cleanup)
        pathlib.Path(cls.data.name).chmod(0o755)
        cls.more = {"data_dir": cls.data.name + "/data", "approvals": {"lease_seconds": 2}}
        super().setUpClass()

    def test_what_waited_is_cancelled_when_its_session_is_gone(self):
        replies = []

        def lost():
            try:
                replies.append(self.run_code("tools.pay.send(words=['1'])"))
            except OSError:
                replies.append(None)
        thread = threading.Thread(target=lost)
        thread.start()
        one, = self.waiting()
        self.server.process.send_signal(signal.SIGKILL)
        self.server.process.wait()
        thread.join()
        self.server.start()
        self.wait_until(lambda: self.show(one)["state"] == "cancelled", "not cancelled", 30)
        self.decide(one, True, status=409)


if __name__ == "__main__":
    import unittest
    unittest.main()
