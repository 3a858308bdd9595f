"""The runner through the gateway's half of it: commands, their walls and their end; files that
change; HTTP services; servers of tools that behave, and that do not."""

import http.server
import json
import os
import pathlib
import queue
import socket
import subprocess
import sys
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lib"))
import processes  # noqa: E402
from harness import BUILD  # noqa: E402
from runner import (INTERNAL, INVALID, NOBODY, NOT_FOUND, TIMEOUT, UNAVAILABLE,  # noqa: E402
                    Runner, readable)

ENOUGH = 30


SHELL = """
    name: sh
    timeout: 20
    schema:
      options: {c: {type: string, short: c}}
    """


def in_directories_of(directory):
    """What lies in the directories of a directory, which may go while one looks."""
    return [pathlib.Path(path) / name for path, directories, files in os.walk(directory)
            if path != str(directory) for name in directories + files]


class Commands(unittest.TestCase):
    def test_a_value_with_spaces_stays_one_word(self):
        tools = {"show.yaml": """
            name: show
            command: printf
            end_of_options: true
            schema: {positional: [{name: words, type: array}]}
            """}
        with Runner(tools) as runner:
            self.assertEqual(runner.text("show", {"words": ["[%s]", "a b", "-x", "$(id)", "ü\n"]}),
                             "[a b][-x][$(id)][ü\n]")

    def test_environment_holds_what_the_definition_names_and_no_more(self):
        tools = {"one.yaml": """
            name: one
            command: env
            args: ""
            env: {KEY: "${secret:key}", PLAIN: x}
            """, "two.yaml": "name: two\ncommand: env\nargs: ''\n",
            "three.yaml": "name: three\ncommand: env\nargs: ''\nenv: {A: '${secret:none}'}\n"}
        with Runner(tools, {"key": "very-secret-value"}) as runner:
            names = {line.split("=")[0] for line in runner.text("two").splitlines()}
            self.assertEqual(names, {"PATH", "LANG", "HOME", "TMPDIR"})
            one = runner.text("one")
            self.assertIn("PLAIN=x", one)
            # The command had it; whoever reads what it says has not.
            self.assertIn("KEY=***", one)
            code, message = runner.outcome("three")
            self.assertEqual(code, UNAVAILABLE)
            self.assertIn("'none' is not configured", message)
            self.assertNotIn("very-secret-value", "".join(runner.log) + json.dumps(runner.tools))

    def test_a_secret_in_an_error_is_taken_out(self):
        tools = {"bad.yaml": """
            name: bad
            command: sh
            schema: {options: {c: {short: c}}}
            env: {KEY: "${secret:key}"}
            """}
        with Runner(tools, {"key": "very-secret-value"}) as runner:
            self.assertEqual(runner.outcome("bad", {"c": "echo no $KEY >&2; exit 1"}),
                             (INTERNAL, "Command failed: no ***"))

    def test_failures_have_their_causes(self):
        tools = {"sh.yaml": SHELL, "gone.yaml": "name: gone\ncommand: no-such-program\n"}
        with Runner(tools) as runner:
            self.assertEqual(runner.outcome("sh", {"c": "exit 3"}),
                             (INTERNAL, "Command failed: Exit code 3"))
            self.assertEqual(runner.outcome("sh", {"c": "echo out; echo why >&2; exit 1"}),
                             (INTERNAL, "Command failed: why"))
            long = "x" * 5000
            self.assertEqual(runner.outcome("sh", {"c": f"echo {long} >&2; exit 1"}),
                             (INTERNAL, f"Command failed: {long}"))
            self.assertEqual(runner.outcome("gone"),
                             (INTERNAL, "no-such-program: command not found"))
            self.assertEqual(runner.outcome("nothing")[0], NOT_FOUND)
            self.assertEqual(runner.outcome("sh", callable="x")[0], NOT_FOUND)
            self.assertEqual(runner.outcome("sh", {"d": 1}),
                             (INVALID, "Unknown argument: 'd'. Known: c"))

    def test_output_that_is_no_text_is_made_text(self):
        with Runner({"sh.yaml": SHELL}) as runner:
            self.assertEqual(runner.text("sh", {"c": r"printf 'a\377b\0c'"}), "a\ufffdb\0c")

    def test_standard_input_is_empty(self):
        with Runner({"sh.yaml": SHELL}) as runner:
            self.assertEqual(runner.text("sh", {"c": "cat; echo end"}), "end\n")

    def test_endless_output_is_cut_and_marked(self):
        with Runner({"sh.yaml": SHELL}) as runner:
            began = time.monotonic()
            text = runner.text("sh", {"c": "head -c 1073741824 /dev/zero | tr '\\0' x"})
            self.assertEqual(text.count("x"), 1 << 20)
            self.assertTrue(text.endswith("[output cut after 1048576 bytes]\n"))
            self.assertLess(time.monotonic() - began, 15)
            # What is said on standard error is dropped past a bound, and the command goes on.
            self.assertEqual(runner.text("sh", {"c": "head -c 9999999 /dev/zero >&2; echo ok"}),
                             "ok\n")

    def test_many_run_at_once(self):
        with Runner({"sh.yaml": SHELL}) as runner:
            began = time.monotonic()
            numbers = [runner.ask("sh", {"c": f"sleep 1; echo {i}"}) for i in range(10)]
            texts = [runner.result(n)[1]["text"] for n in numbers]
            self.assertEqual(texts, [f"{i}\n" for i in range(10)])
            self.assertLess(time.monotonic() - began, 6)

    def test_a_call_is_quick(self):
        tools = {"echo.yaml": (ROOT / "examples/tools/echo.yaml").read_text()}
        with Runner(tools) as runner:
            runner.send({"time": [200, "echo", {"text": "x"}]})
            runner.wait(lambda: runner.took_us)
            took = sorted(runner.took_us)
            # The reach is 2 ms on an idle machine; tests share theirs.
            self.assertLess(took[len(took) // 10], 20000)


class Walls(unittest.TestCase):
    def test_the_servers_files_are_out_of_reach(self):
        with Runner({"sh.yaml": SHELL}, {"key": "very-secret-value"}) as runner:
            token = runner.private / "token"
            runner_pid = subprocess.run(["pgrep", "-P", str(runner.process.pid)],
                                        capture_output=True, text=True, check=True).stdout.strip()
            said = runner.outcome("sh", {"c": f"cat {token} {runner.tools_dir}/sh.yaml; "
                                              f"ls {runner.private} {runner.work_dir}/run; "
                                              f"echo x >{token}; echo x >{runner.work_dir}/mine; "
                                              f"rm -f {token}; chmod 777 {token}; mv {token} .; "
                                              f"ln {token} here; cat here; "
                                              "echo x >/tmp/runner-test-canary; "
                                              f"cat /proc/{runner_pid}/environ "
                                              f"/proc/{runner_pid}/maps "
                                              f"/proc/{runner_pid}/mem; cat /proc/1/environ; "
                                              "cat /etc/shadow; true"})
            text = json.dumps(said)
            for canary in ("the-servers-own-token", "very-secret-value", "libcurl", "root:"):
                self.assertNotIn(canary, text)
            self.assertEqual(token.read_text(), "the-servers-own-token")
            self.assertNotEqual(token.stat().st_mode & 0o777, 0o777)
            self.assertFalse((runner.work_dir / "mine").exists())
            self.assertFalse(os.path.exists("/tmp/runner-test-canary"))

    def test_two_commands_do_not_see_each_other(self):
        with Runner({"sh.yaml": SHELL}) as runner:
            first = runner.ask("sh", {"c": "pwd; echo mine >file; sleep 2"})
            directories = []
            deadline = time.monotonic() + ENOUGH
            while not directories and time.monotonic() < deadline:
                directories = [path for path in in_directories_of(runner.work_dir / "run")
                               if path.name == "file"]
            text = runner.outcome("sh", {"c": f"cat {directories[0]}; kill -9 -1; echo x >"
                                              f"{directories[0]}"})
            self.assertNotIn("mine", json.dumps(text))
            self.assertTrue(runner.result(first)[0])

    def test_nothing_of_a_call_is_left(self):
        with Runner({"sh.yaml": SHELL}) as runner:
            runner.text("sh", {"c": "mkdir -p a/b; touch a/b/c; chmod 000 a; pwd"})
            deadline = time.monotonic() + ENOUGH
            left = runner.work_dir / "run"
            while in_directories_of(left) and time.monotonic() < deadline:
                time.sleep(0.01)  # the answer comes first
            self.assertEqual(in_directories_of(left), [])
            self.assertLessEqual(len(os.listdir(left)), 2)  # the next call's, and the trash

    def test_the_sessions_files_are_seen_where_the_definition_says(self):
        tools = {"sh.yaml": SHELL, "with.yaml": SHELL.replace("name: sh", "name: with\n    data: "
                                                              "read_only\n    command: sh")}
        with Runner(tools) as runner:
            data = runner.base / "session"
            data.mkdir()
            (data / "in.txt").write_text("of the session")
            (data / "token").symlink_to(runner.private / "token")
            if os.geteuid() == 0:
                os.chown(data, NOBODY, NOBODY)
            script = {"c": "ls data; cat data/in.txt; cat data/token; echo x >data/new; "
                           "rm -f data/in.txt; true"}
            with_data = json.dumps(runner.outcome("with", script, directory=str(data)))
            self.assertIn("of the session", with_data)
            self.assertNotIn("the-servers-own-token", with_data)
            self.assertEqual(sorted(p.name for p in data.iterdir()), ["in.txt", "token"])
            without = json.dumps(runner.outcome("sh", script, directory=str(data)))
            self.assertNotIn("of the session", without)
            self.assertIsInstance(runner.outcome("with", script), dict)

    def test_a_tenants_definitions_reach_nothing_of_the_operators(self):
        with Runner({"sh.yaml": SHELL}, {"key": "very-secret-value"}) as runner:
            runner.send({"define": ["tenant-a", [
                {"name": "mine", "command": "echo", "args": "{x}"},
                {"name": "sh", "command": "echo", "args": "{c}"},
                {"name": "spy", "command": "env", "args": "", "env": {"K": "${secret:key}"}},
                {"name": "reader", "command": "cat", "args": "{x}", "read": ["/etc"]}]]})
            runner.wait_for_tool("mine")
            self.assertEqual(runner.text("mine", {"x": "hi"}, prefix="tenant-a"), "hi\n")
            self.assertEqual(runner.outcome("mine", {"x": "hi"}, prefix="tenant-b")[0], NOT_FOUND)
            self.assertEqual(runner.outcome("mine", {"x": "hi"})[0], NOT_FOUND)
            # A file's tool of the same name wins.
            self.assertEqual(runner.text("sh", {"c": "echo file"}, prefix="tenant-a"), "file\n")
            for name in ("spy", "reader"):
                self.assertEqual(runner.outcome(name, prefix="tenant-a")[0], NOT_FOUND)
            told = [p["message"] for p in runner.problems]
            self.assertTrue(any("secrets" in text for text in told), told)
            self.assertTrue(any("may not name files" in text for text in told), told)
            runner.send({"define": ["tenant-a", []]})
            runner.wait(lambda: "mine" not in runner.names())


class Ends(unittest.TestCase):
    def test_a_timeout_ends_all_of_it(self):
        tools = {"slow.yaml": SHELL.replace("timeout: 20", "timeout: 1\n    command: sh").replace(
            "name: sh", "name: slow")}
        with Runner(tools) as runner:
            script = ("trap '' TERM; setsid setsid sleep 7654 & (setsid sh -c 'sleep 7654; :' &); "
                      "sleep 7654; :")
            began = time.monotonic()
            self.assertEqual(runner.outcome("slow", {"c": script}), (TIMEOUT, "timed out after 1s"))
            self.assertLess(time.monotonic() - began, 10)
            self.assertEqual(len(processes.with_word("7654")), 0)

    def test_what_is_left_behind_does_not_hold_the_answer(self):
        with Runner({"sh.yaml": SHELL}) as runner:
            began = time.monotonic()
            self.assertEqual(runner.text("sh", {"c": "setsid sleep 8765 & echo done"}), "done\n")
            self.assertLess(time.monotonic() - began, 8)
            self.assertEqual(len(processes.with_word("8765")), 0)

    def test_a_fork_bomb_harms_its_own_call_only(self):
        tools = {"sh.yaml": SHELL, "bomb.yaml": SHELL.replace("timeout: 20", "timeout: 2").replace(
            "name: sh", "name: bomb\n    command: bash")}
        with Runner(tools) as runner:
            bomb = runner.ask("bomb", {"c": "b() { b | b & }; b; sleep 30"})
            self.assertEqual(runner.text("sh", {"c": "echo fine"}), "fine\n")
            self.assertFalse(runner.result(bomb)[0])
            self.assertEqual(runner.text("sh", {"c": "echo fine"}), "fine\n")

    def test_a_cancelled_call_is_killed_and_not_answered(self):
        with Runner({"sh.yaml": SHELL}) as runner:
            number = runner.ask("sh", {"c": "sleep 9876; :"})
            deadline = time.monotonic() + ENOUGH
            while len(processes.with_word("9876")) == 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            runner.cancel(number)
            while len(processes.with_word("9876")) > 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            self.assertEqual(len(processes.with_word("9876")), 0)
            self.assertEqual(runner.text("sh", {"c": "echo on"}), "on\n")
            self.assertNotIn(number, runner.answers)

    def test_with_the_gateway_all_of_it_ends(self):
        with Runner({"sh.yaml": SHELL}) as runner:
            runner.ask("sh", {"c": "setsid sleep 6789; :"})
            deadline = time.monotonic() + ENOUGH
            while len(processes.with_word("6789")) == 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            runner.process.kill()
            while len(processes.with_word("6789")) > 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            self.assertEqual(len(processes.with_word("6789")), 0)

    def test_when_the_runner_dies_calls_fail_and_nothing_hangs(self):
        with Runner({"sh.yaml": SHELL}) as runner:
            number = runner.ask("sh", {"c": "sleep 5678; :"})
            pid = subprocess.run(["pgrep", "-P", str(runner.process.pid)], capture_output=True,
                                 text=True, check=True).stdout.strip()
            os.kill(int(pid), 9)
            self.assertEqual(runner.result(number)[1]["code"], UNAVAILABLE)
            self.assertEqual(runner.outcome("sh", {"c": "echo"})[0], UNAVAILABLE)
            deadline = time.monotonic() + ENOUGH
            while len(processes.with_word("5678")) > 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            self.assertEqual(len(processes.with_word("5678")), 0)


class Files(unittest.TestCase):
    def test_files_are_followed_and_a_bad_one_is_told_of(self):
        with Runner({"a.yaml": "name: a\ncommand: echo\nargs: one\n"}) as runner:
            self.assertEqual(runner.text("a"), "one\n")
            runner.write("a.yaml", "name: a\ncommand: echo\nargs: two\n")
            runner.write("b.yaml", "name: b\ntags: [x, y]\n")
            runner.wait_for_tool("b")
            self.assertEqual(runner.text("a"), "two\n")
            runner.write("c.yaml", "name: c\n\nargs: '{'\n")
            runner.wait(lambda: runner.problems)
            self.assertEqual([(p["file"].rsplit("/", 1)[-1], p["line"]) for p in runner.problems],
                             [("c.yaml", 3)])
            self.assertEqual(runner.names(), ["a", "b"])
            (runner.tools_dir / "c.yaml").unlink()
            (runner.tools_dir / "b.yaml").unlink()
            runner.wait(lambda: runner.names() == ["a"] and not runner.problems)
            updates = runner.changes
            os.utime(runner.tools_dir / "a.yaml")
            time.sleep(2.2)  # two scans, which must say nothing
            self.assertEqual(runner.changes, updates)

    def test_the_list_file_counts_too(self):
        with Runner({"a.yaml": "name: a\n"}, tools_file=str(readable(ROOT / "examples") / "tools.yaml")) as runner:
            self.assertLessEqual({"a", "nmap", "disk_usage", "github"}, set(runner.names()))
            self.assertIn("Filesystem", runner.text("disk_usage"))

    def test_the_command_line_tells_the_same(self):
        with Runner({"a.yaml": "name: a\n", "b.yaml": "name: b\ntype: x\n"}) as runner:
            done = subprocess.run([BUILD / "carrel", "tools", "check", runner.tools_dir],
                                  capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("b.yaml:2: there is no type 'x'", done.stdout)
            done = subprocess.run([BUILD / "carrel", "tools", "list", "-o", "json",
                                   runner.tools_dir], capture_output=True, text=True, check=True)
            self.assertEqual([tool["name"] for tool in json.loads(done.stdout)], ["a"])
        done = subprocess.run([BUILD / "carrel", "tools", "check", ROOT / "examples/tools"],
                              capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, "9 tools, 0 problems\n"))


class Service(http.server.BaseHTTPRequestHandler):
    """Echoes, redirects, fails, dawdles and floods."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, body, kind="application/json", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length).decode()
        if self.path.startswith("/redirect"):
            self.reply(302, b"", Location="file:///etc/passwd")
        elif self.path.startswith("/fail"):
            self.reply(500, b"it broke, " + self.headers.get("X-Key", "").encode(), "text/plain")
        elif self.path.startswith("/slow"):
            self.server.slow.wait(ENOUGH)
        elif self.path.startswith("/huge"):
            self.reply(200, b"x" * (3 << 20), "text/plain")
        elif self.path.startswith("/text"):
            self.reply(200, "grüße".encode(), "text/plain")
        elif self.path.startswith("/v1/embeddings"):
            texts = json.loads(body)["input"]
            self.reply(200, {"data": [{"index": i, "embedding": [i, len(texts[i]) + 0.5]}
                                      for i in reversed(range(len(texts)))],
                             "seen": self.headers["Authorization"]})
        else:
            self.reply(200, {"path": self.path, "method": self.command, "body": body,
                             "key": self.headers.get("X-Key"),
                             "type": self.headers.get("Content-Type")})

    do_POST = do_DELETE = do_GET


class Serving:
    def __init__(self, handler):
        self.handler = handler

    def __enter__(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        self.server.daemon_threads = True
        self.server.slow = threading.Event()
        self.server.state = {}
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *ignored):
        self.server.slow.set()
        self.server.shutdown()
        self.server.server_close()


class Http(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.serving = Serving(Service)
        cls.serving.__enter__()
        tools = {"api.yaml": f"""
            name: api
            type: http
            base_url: {cls.serving.url}/base
            timeout: 1
            headers: {{X-Key: "${{secret:key}}"}}
            endpoints:
              - name: user
                path: /users/{{id}}/items
                parameters: {{id: {{type: string}}, page: {{type: integer, default: 1}},
                              tags: {{type: array}}}}
              - {{name: make, method: POST, path: /users,
                  parameters: [{{name: name, required: true}}, {{name: age, type: integer}},
                               {{name: dry, type: boolean, in: query}}]}}
            """, "root.yaml": f"""
            name: root
            type: http
            base_url: {cls.serving.url}
            timeout: 1
            headers: {{X-Key: "${{secret:key}}"}}
            endpoints:
              - {{name: redirect, path: /redirect}}
              - {{name: fail, path: /fail}}
              - {{name: slow, path: /slow}}
              - {{name: huge, path: /huge}}
              - {{name: text, path: /text}}
            """, "dead.yaml": """
            name: dead
            type: http
            base_url: http://127.0.0.1:1
            endpoints: [{name: dead, path: /}]
            """}
        cls.runner = Runner(tools, {"key": "very-secret-value"},
                            embeddings_url=f"{cls.serving.url}/v1/embeddings",
                            embeddings_model="m", embeddings_secret="key")
        cls.runner.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.runner.__exit__()
        cls.serving.__exit__()

    def test_arguments_go_where_they_belong(self):
        result = self.runner.outcome("api", {"id": "a/b ü?x=1#", "tags": ["x y", "&z"]}, "user")
        seen = result["json"]
        self.assertEqual(seen["path"], "/base/users/a%2Fb%20%C3%BC%3Fx%3D1%23/items"
                                       "?page=1&tags=x%20y&tags=%26z")
        self.assertEqual(seen["key"], "***")  # it was sent, and is not handed back
        seen = self.runner.outcome("api", {"name": "n", "age": "7", "dry": True}, "make")["json"]
        self.assertEqual((seen["method"], seen["path"]), ("POST", "/base/users?dry=true"))
        self.assertEqual(json.loads(seen["body"]), {"name": "n", "age": 7})
        self.assertEqual(seen["type"], "application/json")

    def test_a_path_cannot_be_left(self):
        for value in ("..", ".", ""):
            code, message = self.runner.outcome("api", {"id": value}, "user")
            self.assertEqual(code, INVALID, message)
        self.assertIn("/base/users/..%2F..%2Fadmin/items",
                      self.runner.outcome("api", {"id": "../../admin"}, "user")["json"]["path"])

    def test_arguments_are_checked(self):
        for arguments, part in (({}, "Required parameter 'id' is missing"),
                                ({"id": "1", "page": "x"}, "'page' must be a whole number"),
                                ({"id": "1", "who": 1}, "Known: id, page, tags")):
            code, message = self.runner.outcome("api", arguments, "user")
            self.assertEqual(code, INVALID)
            self.assertIn(part, message)
        self.assertEqual(self.runner.outcome("api", {}, "gone")[0], NOT_FOUND)

    def test_answers_that_are_none(self):
        call = self.runner.outcome
        self.assertEqual(call("root", {}, "redirect"),
                         (INTERNAL, "HTTP 302: redirects are not followed"))
        self.assertEqual(call("root", {}, "fail"), (INTERNAL, "HTTP 500: it broke, ***"))
        self.assertEqual(call("root", {}, "huge"), (INTERNAL, "the answer is too large"))
        began = time.monotonic()
        self.assertEqual(call("root", {}, "slow"), (TIMEOUT, "timed out after 1s"))
        self.assertLess(time.monotonic() - began, 8)
        self.assertEqual(call("root", {}, "text"), {"text": "grüße"})
        self.assertEqual(call("dead")[0], INTERNAL)

    def test_embeddings_come_in_the_order_of_the_texts(self):
        self.assertEqual(self.runner.embed(["a", "bbb"]), (True, [[0, 1.5], [1, 3.5]]))


# A server of tools that does, on stdio, what its argument says.
STDIO_SERVER = r'''
import json, os, sys, time
mode = sys.argv[1]
def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
if mode == "silent":
    time.sleep(60)
if mode == "flood":
    while True:
        sys.stdout.write("x" * 65536)
if mode == "crash":
    sys.exit("cannot start: no licence")
changed = False
for line in sys.stdin:
    m = json.loads(line)
    if "id" not in m or "method" not in m:
        continue
    method = m["method"]
    if method == "initialize":
        result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {}}
    elif method == "tools/list" and mode == "pages" and not (m.get("params") or {}).get("cursor"):
        result = {"tools": [{"name": "one", "inputSchema": {"type": "object"}}], "nextCursor": "2"}
    elif method == "tools/list":
        names = ["echo", "fail", "hang", "die", "change", "env"] + (["new"] if changed else [])
        result = {"tools": [{"name": n, "description": n + "!", "inputSchema": {
            "type": "object", "properties": {"text": {"type": "string"},
                                             "n": {"type": "integer", "enum": [1, 2]}},
            "required": ["text"] if n == "echo" else []}} for n in names]}
    elif m["params"]["name"] == "hang":
        continue
    elif m["params"]["name"] == "die":
        os._exit(9)
    elif m["params"]["name"] == "fail":
        result = {"isError": True, "content": [{"type": "text", "text": "it is broken"}]}
    else:
        if m["params"]["name"] == "change":
            changed = True
            say({"jsonrpc": "2.0", "id": "p", "method": "ping"})
            pong = json.loads(sys.stdin.readline())
            assert pong == {"jsonrpc": "2.0", "id": "p", "result": {}}, pong
            say({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        text = os.environ.get("KEY", "none") if m["params"]["name"] == "env" else \
            json.dumps(m["params"]["arguments"])
        result = {"content": [{"type": "text", "text": text}, {"type": "image", "data": ""},
                              {"type": "text", "text": "second"}]}
    say({"jsonrpc": "2.0", "id": m["id"], "result": result})
'''


def stdio_tool(name, mode, **more):
    return json.dumps({"name": name, "type": "mcp", "command": "/usr/bin/python3",
                       "args": ["-I", "${tool_dir}/server.py", mode], "read": ["${tool_dir}"],
                       "timeout": 2, **more})


class Mcp(unittest.TestCase):
    def runner(self, tools, **config):
        runner = Runner(tools, **config)
        (runner.tools_dir / "server.py").write_text(STDIO_SERVER)
        return runner

    def test_a_server_on_stdio_is_a_namespace(self):
        with self.runner({"good.yaml": stdio_tool("good", "good", env={"KEY": "${secret:key}"})},
                         secrets={"key": "very-secret-value"}) as runner:
            runner.wait_for_tool("good")
            tool = runner.tools[0]
            self.assertEqual([c["name"] for c in tool["callables"]],
                             ["echo", "fail", "hang", "die", "change", "env"])
            self.assertEqual(tool["callables"][0]["parameters"][0],
                             {"name": "text", "type": "string", "required": True, "default": None,
                              "description": ""})
            self.assertEqual(runner.text("good", {"text": "a b", "n": "2"}, "echo"),
                             '{"text": "a b", "n": 2}\nsecond')
            self.assertEqual(runner.text("good", {}, "env"), "***\nsecond")
            self.assertEqual(runner.outcome("good", {}, "echo"),
                             (INVALID, "Required parameter 'text' is missing"))
            self.assertEqual(runner.outcome("good", {"text": "x", "n": 3}, "echo"),
                             (INVALID, "'n' must be one of: 1, 2"))
            self.assertEqual(runner.outcome("good", {"text": "x", "z": 3}, "echo"),
                             (INVALID, "Unknown argument: 'z'. Known: text, n"))
            self.assertEqual(runner.outcome("good", {}, "fail"), (INTERNAL, "it is broken"))
            self.assertEqual(runner.outcome("good", {}, "none")[0], NOT_FOUND)
            self.assertEqual(runner.outcome("good", {}, "hang"), (TIMEOUT, "timed out after 2s"))
            self.assertIn("second", runner.text("good", {}, "change"))
            runner.wait(lambda: "new" in [c["name"] for c in runner.tools[0]["callables"]])

    def test_a_list_in_pages_is_read_to_its_end(self):
        with self.runner({"pages.yaml": stdio_tool("pages", "pages")}) as runner:
            runner.wait_for_tool("pages")
            self.assertEqual(len(runner.tools[0]["callables"]), 7)

    def test_a_server_that_dies_is_started_again(self):
        with self.runner({"good.yaml": stdio_tool("good", "good")}) as runner:
            runner.wait_for_tool("good")
            code, message = runner.outcome("good", {}, "die")
            self.assertEqual(code, UNAVAILABLE)
            self.assertIn("ended with status 9", message)
            deadline = time.monotonic() + ENOUGH
            while time.monotonic() < deadline:
                result = runner.outcome("good", {"text": "x"}, "echo")
                if isinstance(result, dict):
                    break
                time.sleep(0.1)
            self.assertIsInstance(result, dict)

    def test_servers_that_misbehave_are_told_of_and_harm_nobody(self):
        tools = {"sh.yaml": SHELL, "good.yaml": stdio_tool("good", "good"),
                 "crash.yaml": stdio_tool("crash", "crash"),
                 "flood.yaml": stdio_tool("flood", "flood"),
                 "silent.yaml": stdio_tool("silent", "silent"),
                 "none.yaml": json.dumps({"name": "none", "type": "mcp", "command": "no-such"})}
        with self.runner(tools) as runner:
            runner.wait_for_tool("good")
            runner.wait(lambda: len(runner.problems) >= 3)
            told = "\n".join(p["message"] for p in runner.problems)
            self.assertIn("'crash': it ended with status 1: cannot start: no licence", told)
            self.assertIn("'flood': it sent a message that is too long", told)
            self.assertIn("'none': no-such: command not found", told)
            self.assertEqual(runner.text("sh", {"c": "echo fine"}), "fine\n")
            self.assertEqual(runner.names(), ["good", "sh"])
            self.assertEqual(runner.outcome("crash", {}, "x")[0], UNAVAILABLE)
            (runner.tools_dir / "flood.yaml").unlink()
            runner.wait(lambda: "flood" not in "".join(p["file"] for p in runner.problems))

    def test_the_example_works(self):
        with Runner(tools_file=str(readable(ROOT / "examples") / "tools.yaml")) as runner:
            runner.wait_for_tool("notes")
            self.assertEqual(runner.text("notes", {"text": "milk"}, "add"), "1 notes")
            self.assertEqual(runner.text("notes", {"word": "mil"}, "find"), "milk")


RPC_TOOLS = [{"name": "echo", "inputSchema": {"properties": {"text": {"type": "string"}}}}]


def rpc_result(message):
    method = message["method"]
    if method == "initialize":
        return {"protocolVersion": "2025-03-26", "capabilities": {}, "serverInfo": {}}
    if method == "tools/list":
        return {"tools": RPC_TOOLS}
    return {"content": [{"type": "text", "text": message["params"]["arguments"]["text"]}]}


class Streamable(http.server.BaseHTTPRequestHandler):
    """A server over HTTP; what was asked for with a session it did not give is 404."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def send(self, status, body=b"", kind="application/json", **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.send(405)

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        state = self.server.state
        state.setdefault("seen", []).append((message["method"], self.headers.get("Mcp-Session-Id"),
                                             self.headers.get("MCP-Protocol-Version"),
                                             self.headers.get("X-Key")))
        if message["method"] == "initialize":
            state["session"] = f"s{state.get('count', 0)}"
            state["count"] = state.get("count", 0) + 1
        elif self.headers.get("Mcp-Session-Id") != state["session"]:
            self.send(404)
            return
        if "id" not in message:
            self.send(202)
            return
        answer = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": rpc_result(message)})
        if message["method"] == "tools/call":
            events = (": comment\r\n\r\nevent: message\r\ndata: "
                      '{"jsonrpc":"2.0","method":"notifications/progress"}\r\n\r\n'
                      f"data: {answer}\r\n\r\n")
            self.send(200, events.encode(), "text/event-stream")
        else:
            self.send(200, answer.encode(), Mcp_Session_Id=state["session"])


class Events(http.server.BaseHTTPRequestHandler):
    """A server of revision 2024-11-05."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        answers = self.server.state.setdefault("answers", queue.Queue())
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        endpoint = self.server.state.get("endpoint", "/messages?id=1")
        self.wfile.write(f"event: endpoint\ndata: {endpoint}\n\n".encode())
        while True:
            try:
                text = answers.get(timeout=0.2)
            except queue.Empty:
                if self.server.slow.is_set():
                    return
                continue
            self.wfile.write(f"event: message\ndata: {text}\n\n".encode())

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.state.setdefault("paths", set()).add(self.path)
        if "id" in message:
            self.server.state["answers"].put(json.dumps(
                {"jsonrpc": "2.0", "id": message["id"], "result": rpc_result(message)}))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()


class McpOverHttp(unittest.TestCase):
    def test_streamable_http_keeps_its_session_and_gets_a_new_one(self):
        with Serving(Streamable) as serving:
            tool = {"name": "web", "type": "mcp", "url": serving.url + "/mcp",
                    "headers": {"X-Key": "${secret:key}"}}
            with Runner({"web.yaml": json.dumps(tool)}, {"key": "very-secret-value"}) as runner:
                runner.wait_for_tool("web")
                self.assertEqual(runner.text("web", {"text": "hi"}, "echo"), "hi")
                seen = serving.server.state["seen"]
                self.assertEqual(seen[0], ("initialize", None, None, "very-secret-value"))
                self.assertIn(("tools/list", "s0", "2025-03-26", "very-secret-value"), seen)
                serving.server.state["session"] = "another"  # as after a restart
                self.assertEqual(runner.outcome("web", {"text": "hi"}, "echo")[0], UNAVAILABLE)
                deadline = time.monotonic() + ENOUGH
                result = None
                while not isinstance(result, dict) and time.monotonic() < deadline:
                    time.sleep(0.1)
                    result = runner.outcome("web", {"text": "again"}, "echo")
                self.assertEqual(result, {"text": "again"})

    def test_sse_posts_where_the_stream_says(self):
        with Serving(Events) as serving:
            tool = {"name": "old", "type": "mcp", "transport": "sse", "url": serving.url + "/sse"}
            with Runner({"old.yaml": json.dumps(tool)}) as runner:
                runner.wait_for_tool("old")
                self.assertEqual(runner.text("old", {"text": "hi"}, "echo"), "hi")
                self.assertEqual(serving.server.state["paths"], {"/messages?id=1"})

    def test_sse_does_not_post_to_another_server(self):
        with Serving(Events) as serving, socket.create_server(("127.0.0.1", 0)) as other:
            serving.server.state["endpoint"] = f"http://127.0.0.1:{other.getsockname()[1]}/steal"
            tool = {"name": "old", "type": "mcp", "transport": "sse", "url": serving.url + "/sse",
                    "headers": {"X-Key": "${secret:key}"}}
            with Runner({"old.yaml": json.dumps(tool)}, {"key": "very-secret-value"}) as runner:
                runner.wait(lambda: runner.problems)
                self.assertIn("endpoint of another server", runner.problems[0]["message"])
                other.settimeout(0.3)
                self.assertRaises(TimeoutError, other.accept)


if __name__ == "__main__":
    unittest.main()
