"""The command line against a real server: exec, files, sessions, repl, version and help."""

import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import CARREL, Server, ServerCase  # noqa: E402

OK, USER, USAGE, SERVER_SIDE, STOPPED = 0, 1, 2, 3, 130
COMMANDS = ("exec", "repl", "logs", "status", "files", "sessions", "pools", "skills", "artifacts", "deps",
            "approvals", "store", "serve", "doctor", "tools", "audit", "version")
PNG = b"\x89PNG\r\n\x1a\n"
WAIT_SECONDS = 20


# The prompt asks the terminal to tell what is pasted: on, and off again, whole or as far as it came.
PASTE_SWITCH = re.compile(rb"\x1b\[\?2004[hl]|\x1b(?:\[(?:\?(?:2(?:0(?:04?)?)?)?)?)?\Z")


class Terminal:
    """A program at a terminal of its own."""

    def __init__(self, command, cwd, environment):
        self.raw = b""
        self.seen = b""  # without the switches above
        self.at = 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(cwd)
                os.execve(command[0], command, environment)
            finally:
                os._exit(127)

    def see(self, piece):
        self.raw += piece
        self.seen = PASTE_SWITCH.sub(b"", self.raw)

    def until(self, pattern):
        """Reads on until the pattern has come after what the last call found; returns the match."""
        end = time.monotonic() + WAIT_SECONDS
        while True:
            match = re.search(pattern.encode(), self.seen[self.at:], re.DOTALL)
            if match:
                self.at += match.end()
                return match
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            piece = b""
            if ready:
                try:
                    piece = os.read(self.fd, 65536)
                except OSError:
                    pass
            if not piece:
                raise AssertionError(f"no {pattern!r} in {self.seen[self.at:]!r}")
            self.see(piece)

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self):
        """The exit status, once the program has ended."""
        end = time.monotonic() + WAIT_SECONDS
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid != 0:
                self.pid = None
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                raise AssertionError(f"it did not end: {self.seen[-500:]!r}")
            ready, _, _ = select.select([self.fd], [], [], 0.01)
            if ready:
                try:
                    self.see(os.read(self.fd, 65536))
                except OSError:
                    pass

    def close(self):
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


class Cli(ServerCase):
    def setUp(self):
        super().setUp()
        self.directory = tempfile.TemporaryDirectory(prefix="carrel-cli-")
        self.addCleanup(self.directory.cleanup)
        self.cwd = pathlib.Path(self.directory.name)

    def environment(self, **changes):
        plain = {"PATH": "/usr/bin:/bin", "HOME": str(self.cwd), "CARREL_URL": self.server.url,
                 "CARREL_TOKEN": self.server.token, "TERM": "xterm", **changes}
        return {name: value for name, value in plain.items() if value is not None}

    def run_cli(self, *words, stdin=b"", status=OK, timeout=60, binary=False, **changes):
        """(stdout, stderr) of a command that must end with that status."""
        done = subprocess.run([str(CARREL), *words], input=stdin, cwd=self.cwd, timeout=timeout,
                              env=self.environment(**changes), capture_output=True)
        self.assertEqual(done.returncode, status, (words, done.stdout[-500:], done.stderr[-500:]))
        return (done.stdout, done.stderr) if binary else (done.stdout.decode(), done.stderr.decode())

    def start(self, *words):
        process = subprocess.Popen([str(CARREL), *words], cwd=self.cwd, env=self.environment(),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        self.addCleanup(lambda: (process.poll() is None and process.kill(), process.wait(),
                                 process.stdout.close(), process.stderr.close()))
        return process

    def terminal(self, *words, **changes):
        terminal = Terminal([str(CARREL), *words], self.cwd, self.environment(**changes))
        self.addCleanup(terminal.close)
        return terminal

    def session_count(self):
        return len(self.server.request("GET", "listSessions").json()["sessions"])


class Exec(Cli):
    def test_value_output_and_error_streams(self):
        self.assertEqual(self.run_cli("exec", "1 + 1"), ("2\n", ""))
        self.assertEqual(self.run_cli("exec", "import sys; print('out'); print('err', "
                                              "file=sys.stderr); 'value'"),
                         ("out\nvalue\n", "err\n"))
        self.assertEqual(self.run_cli("exec", "x = 1"), ("", ""))
        self.assertEqual(self.run_cli("exec", "None"), ("", ""))

    def test_values_as_python_writes_them(self):
        for code, shown in (("True", "True"), ("0.1 + 0.2", "0.30000000000000004"), ("2.0", "2.0"),
                            ("'text'", "text"), ("[1, 'a']", "[1, 'a']"), ("2**100", str(2**100)),
                            ("'\u00e9\u4e2d'", "\u00e9\u4e2d"), ("3 - 8", "-5")):
            self.assertEqual(self.run_cli("exec", code)[0], shown + "\n", code)

    def test_exit_status_of_failing_code(self):
        out, err = self.run_cli("exec", "print('before')\n1 / 0", status=USER)
        self.assertEqual(out, "before\n")
        self.assertIn("ZeroDivisionError: division by zero", err)
        _, err = self.run_cli("exec", "import os; os._exit(0)", status=USER)
        self.assertIn("session", err)

    def test_exit_status_of_code_that_exits(self):
        for argument, status in (("", 0), ("0", 0), ("None", 0), ("3", 3), ("7", 7), ("130", 130),
                                 ("-1", 255), ("257", 1), ("'words'", 1), ("True", 1)):
            _, err = self.run_cli("exec", f"import sys; sys.exit({argument})", status=status)
            self.assertNotIn("gone", err)
        self.run_cli("exec", "raise SystemExit(9)", status=9)
        # A failing cell's own status, not what its exception happens to say.
        self.run_cli("exec", "raise ValueError('9')", status=USER)

    def test_what_is_left_after_code_that_exits(self):
        _, err = self.run_cli("exec", "-s", self.session, "kept = 5; import sys; sys.exit(3)", status=3)
        self.assertIn("\ncarrel: the code has exited; its session lives on", err)
        self.assertEqual(self.run_cli("exec", "-s", self.session, "kept"), ("5\n", ""))
        _, err = self.run_cli("exec", "import sys; sys.exit(3)", status=3)
        self.assertNotIn("lives on", err)  # its own session is deleted

    def test_values_with_several_forms_are_shown_once(self):
        frame = ("class Frame:\n    def __repr__(self): return 'plain'\n"
                 "    def _repr_html_(self): return '<b>rich</b>'\n")
        self.assertEqual(self.run_cli("exec", frame + "Frame()"), ("plain\n", ""))
        shown = frame + "from IPython.display import display\ndisplay(Frame())\n"
        self.assertEqual(self.run_cli("exec", shown + "Frame()"), ("plain\nplain\n", ""))
        self.assertEqual(self.run_cli("exec", shown + "'other'"), ("plain\nother\n", ""))
        self.assertEqual(self.run_cli("exec", shown + "1"), ("plain\n1\n", ""))

    def test_notes_begin_a_line(self):
        code = "import sys\nprint('out', end='')\nprint('err', end='', file=sys.stderr)\nsys.exit(3)"
        out, err = self.run_cli("exec", "-s", self.session, code, status=3)
        self.assertEqual(out, "out")
        self.assertRegex(err, r"\Aerr\nSystemExit: 3\ncarrel: [^\n]*\n\Z")
        done = subprocess.run([str(CARREL), "exec", "-s", self.session,
                               "print('out', end='')\nimport sys; sys.exit('')"], cwd=self.cwd,
                              env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for line in done.stdout.split(b"\n"):
            self.assertNotRegex(line, b".carrel: ")
        self.assertIn(b"\ncarrel: ", done.stdout)

    def test_a_url_without_a_scheme(self):
        bare = self.server.url.removeprefix("http://")
        self.assertEqual(self.run_cli("exec", "--url", bare, "1")[0], "1\n")
        self.assertEqual(self.run_cli("exec", "1", CARREL_URL=bare + "/")[0], "1\n")
        self.run_cli("exec", "--url", "localhost:port", "1", status=USAGE)

    def test_exit_status_of_wrong_use(self):
        for words in (["exec", "--nothing", "1"], ["exec", "1", "2"], ["exec", "-f", "a", "1"],
                      ["exec", "-t", "zero", "1"], ["exec", "-t", "0", "1"], ["exec", "-o", "xml", "1"],
                      ["exec", "--session", "", "1"], ["exec", "--tok", "x", "1"], ["nothing"], [],
                      ["exec", "--session"], ["exec", "--url", "ftp://x", "1"],
                      ["exec", "-f", "/no/such/file"][:2]):
            out, err = self.run_cli(*words, status=USAGE)
            self.assertEqual(out, "")
            self.assertTrue(err, words)

    def test_a_local_file_that_cannot_be_read(self):
        _, err = self.run_cli("exec", "-f", "/no/such/file", status=USER)
        self.assertIn("/no/such/file", err)

    def test_exit_status_of_the_servers_side(self):
        _, err = self.run_cli("exec", "1", status=SERVER_SIDE, CARREL_TOKEN="wrong")
        self.assertIn("401", err)
        self.assertNotIn("wrong", err)
        _, err = self.run_cli("exec", "1", status=SERVER_SIDE, CARREL_TOKEN=None)
        self.assertIn("401", err)
        _, err = self.run_cli("exec", "--pool", "other", "1", status=SERVER_SIDE)
        self.assertIn("SessionPoolNotFound", err)
        _, err = self.run_cli("exec", "-s", "abc", "1", status=SERVER_SIDE)
        self.assertIn("InvalidLengthOfSessionIdentifier", err)

    def test_the_server_is_away(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{s.getsockname()[1]}"
        start = time.monotonic()
        _, err = self.run_cli("exec", "1", status=SERVER_SIDE, CARREL_URL=url)
        self.assertIn(url, err)
        self.assertLess(time.monotonic() - start, 5)
        out, _ = self.run_cli("exec", "-o", "json", "1", status=SERVER_SIDE, CARREL_URL=url)
        self.assertTrue(json.loads(out)["error"]["message"])

    def test_a_server_that_is_something_else(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            process = self.start("exec", "--url", f"http://127.0.0.1:{s.getsockname()[1]}", "1")
            s.settimeout(10)
            peer, _ = s.accept()
            peer.recv(65536)
            s.close()
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n"
                         b"Content-Type: text/html\r\n\r\nhello")
            peer.close()
            self.assertEqual(process.wait(10), SERVER_SIDE)
        self.assertIn(b"JSON", process.stderr.read())

    def test_where_code_comes_from(self):
        pathlib.Path(self.cwd, "cell.py").write_text("\ufeffprint('from a file')\n40 + 2\n")
        self.assertEqual(self.run_cli("exec", "-f", "cell.py")[0], "from a file\n42\n")
        self.assertEqual(self.run_cli("exec", "-", stdin=b"6 * 7\n")[0], "42\n")
        self.assertEqual(self.run_cli("exec", stdin=b"x = 3\nx")[0], "3\n")
        self.assertEqual(self.run_cli("exec", "-f", "-", stdin=b"4")[0], "4\n")
        self.assertEqual(self.run_cli("exec", "--", "-1")[0], "-1\n")
        _, err = self.run_cli("exec", "-", stdin=b"'\xff'", status=USAGE)
        self.assertIn("UTF-8", err)

    def test_sessions(self):
        self.run_cli("exec", "--session", self.session, "x = 20")
        self.assertEqual(self.run_cli("exec", "-s", self.session, "x + 22")[0], "42\n")
        count = self.session_count()
        self.assertEqual(self.run_cli("exec", "1")[0], "1\n")
        self.run_cli("exec", "1 / 0", status=USER)
        self.assertEqual(self.session_count(), count)  # its own session went with it
        _, err = self.run_cli("exec", "-s", self.session, "import os; os._exit(1)", status=USER)
        _, err = self.run_cli("exec", "-s", self.session, "1")
        self.assertIn("new", err)

    def test_options_may_stand_before_the_command(self):
        out, _ = self.run_cli("--url", self.server.url, "-o", "json", "exec", "1", CARREL_URL=None)
        self.assertEqual(json.loads(out)["result"]["executionResult"], 1)

    def test_timeout(self):
        start = time.monotonic()
        _, err = self.run_cli("exec", "--timeout", "1", "import time; time.sleep(60)", status=USER)
        self.assertIn("time limit", err)
        self.assertLess(time.monotonic() - start, 5)

    def test_json(self):
        out, err = self.run_cli("exec", "-o", "json", "print('a'); [1]")
        answer = json.loads(out)
        self.assertEqual((answer["status"], answer["result"]["stdout"],
                          answer["result"]["executionResult"], err), ("Succeeded", "a\n", "[1]", ""))
        out, _ = self.run_cli("exec", "--output", "json", "1 / 0", status=USER)
        self.assertEqual(json.loads(out)["error"]["error"]["code"], "ZeroDivisionError")
        out, _ = self.run_cli("exec", "-o", "json", "1", status=SERVER_SIDE, CARREL_TOKEN="wrong")
        self.assertEqual(json.loads(out)["error"]["httpStatus"], 401)

    def test_output_comes_while_it_is_made(self):
        process = self.start("exec", "-s", self.session, "import os, time\nprint('first', flush=True)\n"
                             "while not os.path.exists('go'): time.sleep(0.005)\nprint('second')")
        self.assertEqual(process.stdout.readline(), b"first\n")
        self.assertIsNone(process.poll())
        self.server.upload(self.session, "go", b"")
        self.assertEqual(process.stdout.read(), b"second\n")
        self.assertEqual(process.wait(10), OK)

    def test_interrupts(self):
        process = self.start("exec", "-s", self.session, "state = 'kept'\nopen('on', 'w').close()\n"
                                                         "import time; time.sleep(60)")
        self.wait_for_file("on")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(10), USER)
        self.assertIn(b"interrupted", process.stderr.read())
        self.assertEqual(self.server.value(self.session, "state"), "kept")

    def test_gives_up_at_the_second_interrupt(self):
        process = self.start("exec", "-s", self.session, "open('on', 'w').close()\nimport time\n"
                             "while True:\n    try: time.sleep(60)\n    except KeyboardInterrupt: pass")
        self.wait_for_file("on")
        process.send_signal(signal.SIGINT)
        line = process.stderr.readline()
        self.assertIn(b"again", line)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(10), STOPPED)

    def test_a_pipe_that_closes(self):
        done = subprocess.run(["/bin/bash", "-o", "pipefail", "-c",
                               f"'{CARREL}' exec \"for i in range(100000): print(i)\" | head -1"],
                              env=self.environment(), cwd=self.cwd, capture_output=True, timeout=60)
        self.assertEqual((done.stdout, done.stderr), (b"0\n", b""))

    def test_the_token_from_a_file(self):
        file = self.cwd / "token"
        file.write_text(f"{self.server.token}\n")
        self.assertEqual(self.run_cli("exec", "--token-file", "token", "1", CARREL_TOKEN=None)[0],
                         "1\n")
        self.run_cli("exec", "--token-file", "none", "1", status=USER)
        file.write_text("two words")
        _, err = self.run_cli("exec", "--token-file", "token", "1", status=USAGE)
        self.assertNotIn("two words", err)

    def test_large_output_is_whole(self):
        out, _ = self.run_cli("exec", "print('\u00e9' * 200_000)")
        self.assertEqual(out, "\u00e9" * 200_000 + "\n")

    def test_cut_output_is_told(self):
        _, err = self.run_cli("exec", "print('x' * 3_000_000)")
        self.assertIn("output limit", err)

    def test_escapes_reach_a_pipe_but_not_a_terminal(self):
        code = "print('\\x1b]0;title\\x07\\x1b[2Jred\\u202e')"
        self.assertEqual(self.run_cli("exec", code)[0], "\x1b]0;title\x07\x1b[2Jred\u202e\n")
        terminal = self.terminal("exec", code)
        terminal.until("red")
        self.assertEqual(terminal.end(), OK)
        self.assertNotIn(b"\x1b", terminal.seen)
        self.assertNotIn(b"\x07", terminal.seen)
        self.assertNotIn("\u202e".encode(), terminal.seen)
        self.assertIn(rb"\u001b]0;title\u0007\u001b[2Jred", terminal.seen)
        terminal = self.terminal("exec", "raise ValueError('\\x1b[2J')")
        self.assertEqual(terminal.end(), USER)
        self.assertNotIn(b"\x1b", terminal.seen)


class Images(Cli):
    config = {"preload": ["matplotlib"]}
    PLOT = "import matplotlib.pyplot as plt\n"

    def test_one_is_saved_and_named(self):
        out, err = self.run_cli("exec", self.PLOT + "plt.plot([1, 2])\nplt.show()")
        self.assertEqual(out, "")
        name = re.search(r"carrel-\w+-1\.png", err).group()
        self.assertTrue((self.cwd / name).read_bytes().startswith(PNG))
        self.assertEqual(os.listdir(self.cwd), [name])

    def test_several_and_a_value(self):
        out, err = self.run_cli("exec", self.PLOT + "for i in range(3):\n    plt.figure()\n"
                                                    "    plt.plot([i])\nplt.show()\n42")
        self.assertEqual(out.strip().splitlines()[-1:], ["42"])
        names = re.findall(r"carrel-\w+-\d\.png", err)
        self.assertEqual(len(names), 3)
        self.assertEqual(sorted(os.listdir(self.cwd)), sorted(names))
        self.assertEqual(len({(self.cwd / n).read_bytes() for n in names}), 3)

    def test_a_directory_that_cannot_be_written_to(self):
        if os.geteuid() == 0:
            where = pathlib.Path("/proc/self")
        else:
            where = self.cwd / "closed"
            where.mkdir(0o555)
        done = subprocess.run([str(CARREL), "exec", self.PLOT + "plt.plot([1])\nplt.show()\nprint(7)"],
                              cwd=where, env=self.environment(), capture_output=True, timeout=60)
        self.assertIn(b"7", done.stdout)
        self.assertIn(b"cannot save", done.stderr)


class Files(Cli):
    def test_put_ls_get_rm(self):
        data = bytes(range(256)) * 100
        (self.cwd / "a b.bin").write_bytes(data)
        (self.cwd / "c.txt").write_bytes(b"text")
        out, _ = self.run_cli("files", "put", "-s", self.session, "a b.bin", "c.txt")
        self.assertIn("a b.bin: 25.0 KiB", out)
        out, _ = self.run_cli("files", "ls", "-s", self.session)
        self.assertEqual([line.split(maxsplit=2)[::2] for line in out.splitlines()],
                         [["25600", "a b.bin"], ["4", "c.txt"]])
        (self.cwd / "a b.bin").unlink()
        self.run_cli("files", "get", "-s", self.session, "a b.bin")
        self.assertEqual((self.cwd / "a b.bin").read_bytes(), data)
        self.run_cli("files", "get", "-s", self.session, "c.txt", "-O", "other.txt")
        self.assertEqual((self.cwd / "other.txt").read_bytes(), b"text")
        out, _ = self.run_cli("files", "get", "-s", self.session, "a b.bin", "-O", "-", binary=True)
        self.assertEqual(out, data)
        self.run_cli("files", "rm", "-s", self.session, "a b.bin")
        out, _ = self.run_cli("files", "ls", "-s", self.session)
        self.assertNotIn("a b.bin", out)
        self.run_cli("files", "rm", "-s", self.session, "a b.bin", status=SERVER_SIDE)

    def test_directories(self):
        (self.cwd / "x.txt").write_bytes(b"1")
        self.run_cli("files", "put", "-s", self.session, "--to", "sub/deep", str(self.cwd / "x.txt"))
        self.assertEqual(self.run_cli("files", "get", "-s", self.session, "sub/deep/x.txt", "-O",
                                      "-")[0], "1")
        out, _ = self.run_cli("files", "ls", "-s", self.session, "-r")
        self.assertEqual([line.split()[-1] for line in out.splitlines()],
                         ["sub/", "sub/deep/", "sub/deep/x.txt"])
        out, _ = self.run_cli("files", "ls", "-s", self.session, "sub/deep")
        self.assertEqual(len(out.splitlines()), 1)
        self.run_cli("files", "rm", "-s", self.session, "/mnt/data/sub/deep/x.txt")

    def test_json(self):
        (self.cwd / "x.txt").write_bytes(b"12345")
        out, _ = self.run_cli("files", "put", "-s", self.session, "-o", "json", "x.txt")
        self.assertEqual(json.loads(out)["value"][0]["sizeInBytes"], 5)
        out, _ = self.run_cli("files", "ls", "-s", self.session, "-o", "json")
        self.assertEqual(json.loads(out)["value"][0]["name"], "x.txt")
        out, _ = self.run_cli("files", "get", "-s", self.session, "-o", "json", "x.txt", "-O", "y.txt")
        self.assertEqual(json.loads(out)["savedAs"], "y.txt")
        out, _ = self.run_cli("files", "rm", "-s", self.session, "-o", "json", "x.txt")
        self.assertEqual(json.loads(out), {"deleted": "x.txt"})
        out, _ = self.run_cli("files", "get", "-s", self.session, "-o", "json", "x.txt",
                              status=SERVER_SIDE)
        self.assertEqual(json.loads(out)["error"]["code"], "SessionFileNotFound")

    def test_a_file_that_is_not_there_leaves_nothing_here(self):
        (self.cwd / "old.txt").write_bytes(b"old")
        self.run_cli("files", "get", "-s", self.session, "none", "-O", "old.txt", status=SERVER_SIDE)
        self.assertEqual((self.cwd / "old.txt").read_bytes(), b"old")
        self.assertEqual(os.listdir(self.cwd), ["old.txt"])

    def test_wrong_use(self):
        for words in (["put", "x"], ["put", "-s", "demo"], ["get", "-s", "demo"],
                      ["get", "-s", "demo", "a", "b"], ["ls", "-s", "demo", "--to", "x"], ["move"], [],
                      ["get", "-s", "demo", "-O", "-", "-o", "json", "a"], ["rm", "-s", "demo", "-r", "a"]):
            self.run_cli("files", *words, status=USAGE)
        self.run_cli("files", "put", "-s", self.session, "/no/such", status=USER)
        self.run_cli("files", "put", "-s", self.session, "/etc", status=USER)

    def test_names_are_shown_without_harm(self):
        self.server.value(self.session, "open('a\\x1b[2J\\nb', 'w').close()")
        terminal = self.terminal("files", "ls", "-s", self.session)
        self.assertEqual(terminal.end(), OK)
        self.assertNotIn(b"\x1b", terminal.seen)
        self.assertIn(rb"a\u001b[2J\u000ab", terminal.seen)  # shown, and in one line

    def test_a_progress_bar_at_a_terminal_only(self):
        (self.cwd / "big").write_bytes(bytes(30 << 20))
        _, err = self.run_cli("files", "put", "-s", self.session, "big")
        self.assertEqual(err, "")
        # A server that stands still for a while, so that there is progress to be shown.
        self.server.process.send_signal(signal.SIGSTOP)
        try:
            terminal = self.terminal("files", "put", "-s", self.session, "big")
            terminal.until(r"big \[#*\.+\] +\d+% ")
        finally:
            self.server.process.send_signal(signal.SIGCONT)
        self.assertEqual(terminal.end(), OK)
        self.assertTrue(terminal.seen.endswith(b"\r\x1b[Kbig: 30.0 MiB\r\n"), terminal.seen[-200:])

    def test_30_mb_there_and_back(self):
        data = os.urandom(1 << 20) * 30
        (self.cwd / "big").write_bytes(data)
        self.run_cli("files", "put", "-s", self.session, "big")
        self.run_cli("files", "get", "-s", self.session, "big", "-O", "again")
        self.assertEqual((self.cwd / "again").read_bytes(), data)


class Sessions(Cli):
    def test_ls_show_rm(self):
        self.server.value(self.session, "1")
        out, _ = self.run_cli("sessions", "ls")
        lines = out.splitlines()
        self.assertEqual(lines[0].split(), ["IDENTIFIER", "LAST", "USED", "EXPIRES"])
        self.assertIn(self.session, [line.split()[0] for line in lines[1:]])
        self.assertEqual({line.index("20", len(self.session)) for line in lines[1:]
                          if line.startswith(self.session)}, {lines[0].index("LAST")})
        out, _ = self.run_cli("sessions", "show", self.session)
        self.assertRegex(out, rf"identifier +{re.escape(self.session)}\n")
        self.assertIn("expireAt", out)
        self.run_cli("sessions", "rm", self.session)
        out, _ = self.run_cli("sessions", "ls")
        self.assertNotIn(self.session, out)
        for verb in ("show", "rm"):
            _, err = self.run_cli("sessions", verb, self.session, status=SERVER_SIDE)
            self.assertIn("SessionWithIdentifierNotFound", err)

    def test_json(self):
        self.server.value(self.session, "1")
        out, _ = self.run_cli("sessions", "ls", "-o", "json")
        self.assertIn(self.session, [s["identifier"] for s in json.loads(out)["sessions"]])
        out, _ = self.run_cli("sessions", "show", self.session, "-o", "json")
        self.assertEqual(json.loads(out)["identifier"], self.session)
        out, _ = self.run_cli("sessions", "rm", self.session, "-o", "json")
        self.assertEqual(json.loads(out), {"deleted": self.session})

    def test_more_than_a_page(self):
        names = [f"{self.session}-{i:03d}" for i in range(120)]
        for name in names:
            self.server.request("GET", "files", name)
        out, _ = self.run_cli("sessions", "ls", "-o", "json")
        listed = {s["identifier"] for s in json.loads(out)["sessions"]}
        self.assertLessEqual(set(names), listed)
        for name in names:
            self.server.request("DELETE", "session", name)

    def test_wrong_use(self):
        for words in ([], ["list"], ["show"], ["ls", "x"], ["rm", "a", "b"]):
            self.run_cli("sessions", *words, status=USAGE)


class Served(Cli):
    """What a server has, and what it does."""

    def setUp(self):
        super().setUp()
        for path, body in (("skills", {"name": "greet", "description": "Greets", "source":
                                       "async def run():\n    return 'hi'\n"}),
                           ("artifacts", {"name": "a/b.txt", "data": "caf\u00e9", "description": "x\ny\x1b"})):
            self.assertEqual(self.server.request("POST", f"api/{path}", body=body).status, 200)

    def test_skills(self):
        out, _ = self.run_cli("skills")
        self.assertRegex(out, r"\ANAME +DESCRIPTION\ngreet +Greets\n\Z")
        self.assertEqual(self.run_cli("skills", "ls")[0], out)
        self.assertIn("return 'hi'", self.run_cli("skills", "show", "greet")[0])
        self.assertEqual(json.loads(self.run_cli("skills", "ls", "-o", "json")[0])[0]["name"], "greet")
        self.run_cli("skills", "rm", "greet")
        self.run_cli("skills", "show", "greet", status=SERVER_SIDE)
        self.run_cli("skills", "rm", "greet", status=SERVER_SIDE)
        self.assertEqual(self.run_cli("skills")[0].splitlines()[1:], [])

    def test_artifacts(self):
        out, _ = self.run_cli("artifacts")
        self.assertRegex(out, r"\ANAME +TYPE +BYTES +MADE +DESCRIPTION\n"
                              r"a/b\.txt +text +5 +20\S+ +x\\u000ay\\u001b\n\Z")
        self.assertEqual(self.run_cli("artifacts", "get", "a/b.txt")[0], "caf\u00e9")
        self.run_cli("artifacts", "get", "a/b.txt", "-O", "here")
        self.assertEqual((self.cwd / "here").read_text(), "caf\u00e9")
        self.run_cli("artifacts", "get", "none", "-O", "none", status=SERVER_SIDE)
        self.assertFalse((self.cwd / "none").exists())
        self.run_cli("artifacts", "rm", "a/b.txt")
        _, err = self.run_cli("artifacts", "get", "a/b.txt", status=SERVER_SIDE)
        self.assertIn("carrel: Artifact 'a/b.txt' not found (HTTP 404)", err)

    def test_deps_tools_and_pools(self):
        self.assertEqual(self.run_cli("deps")[0], "REQUIREMENT\n")
        _, err = self.run_cli("deps", "add", "no good name", status=SERVER_SIDE)
        self.assertIn("(HTTP 4", err)
        self.assertEqual(self.run_cli("tools", "ls")[0], "NAME  DESCRIPTION\n")
        out, _ = self.run_cli("pools")
        self.assertRegex(out, r"\ANAME +SESSIONS +MOST +RUNNING +WAITING +READY\ndefault( +\d+){5}\n\Z")
        self.assertEqual(json.loads(self.run_cli("pools", "-o", "json")[0])[0]["name"], "default")

    def test_status(self):
        code = b"print('wait')"
        self.run_cli("approvals", "submit", "-", "--policy", "before", stdin=code)
        waiting = self.wait_until(lambda: re.search(r"approvals +1 waiting", self.run_cli("status")[0]),
                                  "it does not wait")
        out = waiting.string
        self.assertRegex(out, rf"server +{self.server.url}, healthy, up \d+ s\n")
        self.assertRegex(out, r"pools +default: \d+ of \d+ sessions, \d+ running, \d+ ready\n")
        self.assertRegex(out, r"doctor +\w+")
        self.assertEqual(json.loads(self.run_cli("status", "-o", "json")[0])["health"]["status"], "healthy")
        self.run_cli("status", status=SERVER_SIDE, CARREL_TOKEN="wrong")
        self.run_cli("status", status=SERVER_SIDE, CARREL_URL="http://127.0.0.1:1")

    def test_logs(self):
        self.run_cli("logs", "none-of-this-name", status=SERVER_SIDE)
        self.server.value(self.session, "print('before'); 1")
        follower = self.start("logs", "--all", self.session)
        self.assertEqual([follower.stdout.readline() for _ in range(2)], [b"before\n", b"1\n"])
        other = self.start("exec", "-s", self.session, "import os, time\nprint('first', flush=True)\n"
                           "while not os.path.exists('go'): time.sleep(0.005)\nprint('second'); 2")
        self.assertEqual(follower.stdout.readline(), b"first\n")  # while it runs
        self.assertIsNone(other.poll())
        self.server.upload(self.session, "go", b"")
        self.assertEqual([follower.stdout.readline() for _ in range(2)], [b"second\n", b"2\n"])
        self.server.request("DELETE", "session", self.session)
        self.assertEqual(follower.wait(20), OK)
        self.assertIn(b"the session has ended", follower.stderr.read())

    def test_logs_let_go_without_harm(self):
        self.server.value(self.session, "1")
        other = self.start("exec", "-s", self.session, "import os, time\nprint('first', flush=True)\n"
                           "while not os.path.exists('go'): time.sleep(0.005)\nprint('second')")
        follower = self.start("logs", self.session)
        self.assertEqual(follower.stdout.readline(), b"first\n")
        follower.send_signal(signal.SIGINT)
        self.assertEqual(follower.wait(10), STOPPED)
        self.server.upload(self.session, "go", b"")
        self.assertEqual(other.stdout.read(), b"first\nsecond\n")

    def test_wrong_use(self):
        for words in (["skills", "show"], ["skills", "ls", "x"], ["skills", "rm", "a", "b"], ["pools", "x"],
                      ["deps", "add"], ["deps", "sync", "x"], ["artifacts", "rm", "a", "-O", "b"],
                      ["status", "x"], ["logs"], ["logs", "a", "b"], ["tools", "ls", "x"]):
            self.run_cli(*words, status=USAGE)


class Repl(Cli):
    PROMPT = r">>> "

    def begin(self, *words):
        terminal = self.terminal("repl", *words)
        terminal.until(self.PROMPT)
        return terminal

    def answer(self, terminal, line, pattern):
        terminal.type(line + "\r")
        terminal.until(pattern)
        terminal.until(self.PROMPT)

    def test_a_conversation(self):
        count = self.session_count()
        terminal = self.begin()
        self.answer(terminal, "x = 20", "")
        self.answer(terminal, "x + 22", r"\n42\r")
        self.answer(terminal, "print('hello')", r"\nhello\r")
        self.answer(terminal, "1 / 0", "ZeroDivisionError")
        self.answer(terminal, "x", r"\n20\r")
        terminal.type("\x04")
        self.assertEqual(terminal.end(), OK)
        self.assertEqual(self.session_count(), count)

    def test_several_lines(self):
        terminal = self.begin()
        terminal.type("def f(n):\r")
        terminal.until(r"\.\.\. ")
        terminal.type("    return n * 2\r")
        terminal.until(r"\.\.\. ")
        self.answer(terminal, "", "")
        self.answer(terminal, "f(21)", r"\n42\r")
        terminal.type("(1 +\r")
        terminal.until(r"\.\.\. ")
        self.answer(terminal, "2)", r"\n3\r")
        terminal.type("s = '''a\r")
        terminal.until(r"\.\.\. ")
        self.answer(terminal, "b'''", "")
        self.answer(terminal, "len(s)", r"\n3\r")
        terminal.type("exit()\r")
        self.assertEqual(terminal.end(), OK)

    def test_ctrl_c_interrupts_the_cell(self):
        terminal = self.begin("-s", self.session)
        self.answer(terminal, "kept = 5", "")
        terminal.type("open('on', 'w').close(); import time; time.sleep(60)\r")
        self.wait_for_file("on")
        terminal.type("\x03")
        terminal.until("interrupted")
        terminal.until(self.PROMPT)
        self.answer(terminal, "kept", r"\n5\r")
        terminal.type("\x04")
        self.assertEqual(terminal.end(), OK)
        self.assertEqual(self.server.value(self.session, "kept"), 5)  # a named session stays

    def test_ctrl_c_clears_the_line(self):
        terminal = self.begin()
        terminal.type("1 / 0")
        terminal.until("1 / 0")
        terminal.type("\x03")
        terminal.until(self.PROMPT)
        self.answer(terminal, "7 * 6", r"\n42\r")
        terminal.type("if True:\r")
        terminal.until(r"\.\.\. ")
        terminal.type("\x03")
        terminal.until(self.PROMPT)
        self.answer(terminal, "7 * 6", r"\n42\r")
        self.assertNotIn(b"ZeroDivisionError", terminal.seen)
        terminal.type("\x04")
        self.assertEqual(terminal.end(), OK)

    def test_history(self):
        terminal = self.begin()
        self.answer(terminal, "111 * 3", r"\n333\r")
        self.answer(terminal, "\x1b[A", r"\n333\r")  # the up arrow
        terminal.type("\x04")
        self.assertEqual(terminal.end(), OK)
        file = self.cwd / ".local/state/carrel/history"
        self.assertIn("111", file.read_text())
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        self.assertEqual(file.parent.stat().st_mode & 0o777, 0o700)
        terminal = self.begin()
        self.answer(terminal, "\x1b[A", r"\n333\r")
        terminal.type("\x04")
        terminal.end()

    def test_editing(self):
        terminal = self.begin()
        self.answer(terminal, "6 * 8\x7f7", r"\n42\r")
        self.answer(terminal, "00\x01" + "4\x05" + " + 2", r"\n402\r")
        terminal.type("\x04")
        self.assertEqual(terminal.end(), OK)

    def test_escapes_of_a_cell_are_harmless(self):
        terminal = self.begin()
        self.answer(terminal, "print('\\x1b]0;own' + 'ed\\x07')", r"\\u001b\]0;owned\\u0007")
        self.assertNotIn(b"\x1b]0;owned", terminal.seen)
        terminal.type("\x04")
        terminal.end()

    def test_a_session_that_ended_is_told(self):
        terminal = self.begin()
        self.answer(terminal, "x = 1", "")
        self.answer(terminal, "import os; os._exit(1)", "session")
        self.answer(terminal, "'x' in globals()", "new one")
        self.assertEqual(terminal.seen.count(b"new one"), 1)
        self.answer(terminal, "2", r"\n2\r")
        self.assertEqual(terminal.seen.count(b"new one"), 1)
        terminal.type("\x04")
        terminal.end()

    def test_values_are_shown_as_python_shows_them(self):
        terminal = self.begin()
        for code, shown in (("'42'", "'42'"), ("42", "42"), ("float('nan')", "nan"), ("b'x'", "b'x'"),
                            ("float('-inf')", "-inf"), ("'a\\nb'", r"'a\\nb'"), ("''", "''")):
            self.answer(terminal, code, rf"\n{shown}\r")
        terminal.type("None\r")
        self.assertNotIn("None", terminal.until(r"\n(.*?)>>> ").group(1).decode())
        terminal.type("\x04")
        self.assertEqual(terminal.end(), OK)

    def test_the_server_is_spoken_to_before_the_first_line(self):
        for changes, words, said in (({"CARREL_TOKEN": "wrong"}, [], "401"),
                                     ({"CARREL_URL": "http://127.0.0.1:1"}, [], "127.0.0.1:1"),
                                     ({}, ["--pool", "other"], "SessionPoolNotFound"),
                                     ({}, ["-s", "abc"], "InvalidLengthOfSessionIdentifier")):
            terminal = self.terminal("repl", *words, **changes)
            self.assertEqual(terminal.end(), SERVER_SIDE)
            self.assertIn(said, terminal.seen.decode())
            self.assertNotIn(b">>> ", terminal.seen)
            _, err = self.run_cli("repl", *words, stdin=b"1\n", status=SERVER_SIDE, **changes)
            self.assertIn(said, err)

    def test_says_whether_its_session_is_new(self):
        terminal = self.begin("-s", self.session)
        self.assertIn(b"which is new", terminal.seen)
        self.answer(terminal, "x = 1", "")
        terminal.type("\x04")
        terminal.end()
        terminal = self.begin("-s", self.session)
        self.assertRegex(terminal.seen, rb"with all it has since \d{4}-")
        terminal.type("\x04")
        terminal.end()

    PASTE, PASTED = "\x1b[200~", "\x1b[201~"

    def test_a_paste_is_one_cell_and_waits_for_enter(self):
        terminal = self.begin()
        terminal.type(self.PASTE + "def f(n):\r\n\ta = 1\r\n\r\n\treturn a + n\r\n\r\nprint('ran', f(2))"
                      + self.PASTED)
        terminal.until(r"print\('ran', f\(2\)\)")
        terminal.type("; f(3)")
        self.answer(terminal, "", r"\nran 3\r\n4\r")
        self.answer(terminal, "\x1b[A", r"\nran 3\r\n4\r")  # and is one entry of the history
        terminal.type("\x04")
        self.assertEqual(terminal.end(), OK)
        self.assertTrue(terminal.raw.endswith(b"\x1b[?2004l\r\n"), terminal.raw[-50:])
        entries = (self.cwd / ".local/state/carrel/history").read_text().splitlines()[1:]
        self.assertEqual(len(entries), 1, entries)

    def test_a_paste_of_one_line_is_typed(self):
        terminal = self.begin()
        terminal.type("6" + self.PASTE + " * \x03\x1b7" + self.PASTED)  # no key in it is pressed
        terminal.until("7")
        self.answer(terminal, "\x01(\x05)", r"\n42\r")
        terminal.type(self.PASTE + "1 / 0\n")  # whose end never comes
        terminal.until(r">>> 1 / 0\r\n\.\.\. ")
        terminal.type("\x03")
        terminal.until(self.PROMPT)
        self.answer(terminal, "7 * 6", r"\n42\r")
        self.assertNotIn(b"ZeroDivisionError", terminal.seen)
        terminal.type("\x04")
        self.assertEqual(terminal.end(), OK)

    def test_tab_completes_from_the_session(self):
        terminal = self.begin("-s", self.session)
        self.server.value(self.session, "class Box: pass\nbox = Box(); box.colour_of_it = 7\n"
                                        "box.kind = box.kin2 = 8")
        self.answer(terminal, "40 + 2", r"\n42\r")
        self.answer(terminal, "box.col\t", r"\n7\r")
        terminal.type("box.k\tx\x7f\t")  # as far as they are the same, then all
        terminal.until(r"\nkin2  kind  \r\n")
        self.answer(terminal, "d", r"\n8\r")
        self.answer(terminal, "prin\t('a')", r"\na\r")
        self.answer(terminal, "nothing_like_it\t", "NameError")
        terminal.type("if True:\r\tindented = 5\r\rindented\r")
        terminal.until(r"\n5\r.*>>> ")
        self.server.value(self.session, "_ = 'mine'")
        self.answer(terminal, "box.col\t; _", r"\n'mine'\r")
        names = self.server.value(self.session, "sorted(n for n in globals() if n[0] != '_')")
        self.assertEqual(names, "['Box', 'artifacts', 'box', 'deps', 'indented', 'skills', 'tools', "
                                "'workflows']")
        terminal.type("\x04")
        self.assertEqual(terminal.end(), OK)

    def test_names_of_a_hostile_session(self):
        terminal = self.begin("-s", self.session)
        self.server.value(self.session, "class Trap:\n    def __dir__(self): return ['fine', "
                          "'fi\\x1b[2Jx', 'fix; import os', 'fi\\nx', 'fi\\u202e', 'fi' * 400]\n"
                          "trap = Trap()\nclass Slow:\n    def __dir__(self):\n        import time\n"
                          "        while 1:\n            time.sleep(60)\nslow = Slow(); kept = 3")
        terminal.type("'trap.fi\t")
        terminal.until("ne")  # the only one that is a name
        self.assertNotIn(b"\x1b[2J", terminal.seen)
        terminal.type("\x03")
        terminal.until(self.PROMPT)
        start = time.monotonic()
        terminal.type("slow.a\t\x01\x0bkept\r")
        terminal.until(r"\n3\r.*>>> ")  # the session and its state are there
        self.assertLess(time.monotonic() - start, 10)
        terminal.type("\x04")
        self.assertEqual(terminal.end(), OK)

    def test_from_a_pipe(self):
        out, _ = self.run_cli("repl", stdin=b"x = 40\nx + 2\nfor i in range(2):\n    print(i)\n\n'end'\n")
        self.assertEqual(out, "42\n0\n1\n'end'\n")
        _, err = self.run_cli("repl", stdin=b"1 / 0\n", status=USER)
        self.assertIn("ZeroDivisionError", err)

    def test_the_server_goes_away(self):
        with Server({"pools": [{"name": "default", "ready_sessions": 1}]}) as server:
            terminal = self.terminal("repl", CARREL_URL=server.url, CARREL_TOKEN=server.token)
            terminal.until(self.PROMPT)
            self.answer(terminal, "1 + 1", r"\n2\r")
            server.stop()
            self.answer(terminal, "3", "carrel: ")
            terminal.type("\x04")
            terminal.end()


class ReplStays(Cli):
    config = {"pools": [{"name": "default", "ready_sessions": 2, "cooldown_seconds": 2}]}

    def test_a_session_that_ends_at_the_prompt_is_told_there(self):
        terminal = self.terminal("repl", "-s", self.session)
        terminal.until(">>> ")
        terminal.type("x = 1\r")
        terminal.until(">>> ")
        terminal.type("x +")
        self.server.request("DELETE", "session", self.session)
        terminal.until(r"\ncarrel: the session has ended, and its state is gone")
        terminal.until(r">>> x \+")  # what was typed is there
        terminal.type(" 1\r")
        terminal.until("NameError")
        terminal.until(">>> ")
        self.assertNotIn(b"ran in a new one", terminal.seen)
        terminal.type("\x04")
        terminal.end()

    def test_the_session_lives_while_somebody_is_at_its_prompt(self):
        terminal = self.terminal("repl", "-s", self.session)
        terminal.until(">>> ")
        terminal.type("kept = 5\r")
        terminal.until(">>> ")
        self.server.value(other := self.session + "-other", "1")
        self.wait_until(lambda: self.server.request("GET", "session", other).status == 400,
                        "the other one is there")
        end = time.monotonic() + 2
        self.wait_until(lambda: time.monotonic() > end, "")
        terminal.type("kept\r")
        terminal.until(r"\n5\r.*>>> ")
        self.assertNotIn(b"carrel: ", terminal.seen)
        terminal.type("\x04")
        self.assertEqual(terminal.end(), OK)


class Help(unittest.TestCase):
    def run_cli(self, *words):
        return subprocess.run([str(CARREL), *words], capture_output=True, text=True, timeout=20,
                              env={"PATH": "/usr/bin:/bin"})

    def test_help_of_each(self):
        for name in COMMANDS:
            for words in (("help", name), (name, "--help"), (name, "-h")):
                done = self.run_cli(*words)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertTrue(done.stdout.startswith(f"carrel {name}: "), done.stdout[:80])
                self.assertIn("Example:\n", done.stdout)
                self.assertLessEqual(max(map(len, done.stdout.splitlines())), 100)

    def test_overview(self):
        for words in (("help",), ("--help",), ("-h",)):
            done = self.run_cli(*words)
            self.assertEqual(done.returncode, 0)
            for name in COMMANDS:
                self.assertIn(f"\n  {name} ", done.stdout)
        done = self.run_cli()
        self.assertEqual((done.returncode, done.stdout), (USAGE, ""))
        self.assertEqual(self.run_cli("help", "nothing").returncode, USAGE)

    def test_what_may_have_been_meant(self):
        for words, meant in ((("sesions",), "sessions"), (("exce", "1"), "exec"), (("run", "1"), "exec"),
                             (("sessions", "list"), "ls"), (("skills", "delete", "x"), "rm"),
                             (("serve", "--lisen", ":0"), "--listen"),
                             (("exec", "--sesion", "x", "1"), "--session")):
            done = self.run_cli(*words)
            self.assertEqual(done.returncode, USAGE)
            self.assertRegex(done.stderr, rf"did you mean '?{meant}'?\?")
        self.assertNotIn("mean", self.run_cli("something").stderr)

    def test_serve_names_the_option_at_fault(self):
        for words, says in ((("--nothing",), "--nothing"), (("--listen",), "--listen"),
                            (("--url", "x"), "--url"), (("word",), "'word'"), (("-x",), "-x")):
            done = self.run_cli("serve", *words)
            self.assertEqual((done.returncode, done.stdout), (USAGE, ""))
            self.assertIn(says, done.stderr.splitlines()[0])
        helps = self.run_cli("serve", "--help").stdout
        for option in ("config", "listen", "data-dir", "isolation", "tls-cert", "tls-key", "stop-at-eof"):
            self.assertRegex(helps, rf"\n +(-\w, )?--{option} ")
        self.assertNotIn("--token-file", helps)

    def test_version(self):
        for words in (("version",), ("--version",)):
            self.assertRegex(self.run_cli(*words).stdout, r"^carrel \d+\.\d+\.\d+ ")
        answer = json.loads(self.run_cli("version", "-o", "json").stdout)
        self.assertRegex(answer["version"], r"^\d+\.\d+\.\d+$")


class Tls(Cli):
    @classmethod
    def setUpClass(cls):
        if shutil.which("openssl") is None:
            raise unittest.SkipTest("there is no openssl command to make a certificate with")
        cls.keys = tempfile.TemporaryDirectory()
        cls.cert, key = f"{cls.keys.name}/cert.pem", f"{cls.keys.name}/key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cls.cert, "-days",
                        "2", "-subj", "/CN=localhost", "-addext",
                        "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True,
                       stderr=subprocess.DEVNULL)
        cls.config = {"tls": {"cert": cls.cert, "key": key}}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.keys.cleanup()

    def test_only_with_a_certificate_that_is_trusted(self):
        self.assertEqual(self.run_cli("exec", "--ca-file", self.cert, "6 * 7")[0], "42\n")
        _, err = self.run_cli("exec", "1", status=SERVER_SIDE)
        self.assertIn("certificate", err.lower())


if __name__ == "__main__":
    unittest.main()
