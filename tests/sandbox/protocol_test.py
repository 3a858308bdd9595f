"""Hostile code that finds its session's control socket and speaks for the session: it may harm that
session, and nothing else. The bytes it forges are those of src/ipc."""

import json
import threading
import time
import unittest

import hostile

SERIAL = True

ANSWER_SECONDS = 1
GROWTH_BYTES_MAX = 256 << 20  # while a message comes: it, its copy, the reply and its JSON
KEPT_BYTES_MAX = 72 << 20     # when it is over: what libc keeps of that

VERDICTS = {"succeeded", "exception", "exited", "time_limit", "memory_limit", "process_limit",
            "file_space_limit", "open_files_limit", "output_limit", "interrupted", "session_killed"}

# What the attacker brings along besides hostile.TOOLS: the socket, and the encoding.
FORGERY = r'''
import array, threading

SEALED, WALLS_FAILED, DISPLAY, RESULT = 48, 49, 50, 51
HOST_REPLY, HOST_BYTES, HOST_CALL, HOST_PUT, HOST_CANCEL = 34, 35, 53, 54, 55
MORE = 1
PIECE = 61440


def find_control():
    """Scans for it: the one packet socket that is open."""
    for fd in range(3, 65536):
        try:
            s = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        if s.type == socket.SOCK_SEQPACKET:
            return fd, s
        s.close()
    raise RuntimeError("there is no control socket")


control_fd, control = find_control()


def current():
    """The number of the running execution, from the message on the C stack: struct ipc_message of
    src/ipc/frame.h, which ends a buffer's maximum with four descriptors that are -1."""
    with open("/proc/self/maps") as maps:
        start, end = next(line.split()[0] for line in maps if "[stack]" in line).split("-")
    with open("/proc/self/mem", "rb", 0) as memory:
        memory.seek(int(start, 16))
        stack = memory.read(int(end, 16) - int(start, 16))
    at = stack.find(b"\xff" * 16)
    while at >= 0:
        kind, _, ref = struct.unpack_from("IIQ", stack, at - 48) if at >= 48 else (0, 0, 0)
        if kind == 32 and 0 < ref < 1 << 40:
            return ref
        at = stack.find(b"\xff" * 16, at + 4)
    raise RuntimeError("the message was not found")


def send(kind, ref=0, body=b"", flags=0, fds=()):
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    return control.sendmsg([struct.pack("IIQ", kind, flags, ref), body], ancillary)


def send_whole(kind, ref, body):
    body = memoryview(body)
    for at in range(0, len(body), PIECE):
        send(kind, ref, body[at:at + PIECE], MORE if at + PIECE < len(body) else 0)


def answer_instead(make):
    """From here on a thread answers in the session's place: its main thread never reads again."""
    def serve():
        while True:
            kind, flags, ref = struct.unpack("IIQ", control.recv(1 << 16)[:16])
            send_whole(RESULT, ref, make(ref))
    threading.Thread(target=serve, daemon=True).start()
    send(RESULT, current(), result())
    time.sleep(600)


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack("I", len(value)) + value


def result(status=0, kind=5, limit=0, exit_code=0, duration=1, json=b"", value=b"forged",
           name=b"", message=b"", traceback=b""):
    return struct.pack("=BBBIQQQI", status, kind, limit, exit_code, duration, 0, 0, 0) + b"".join(
        map(text, (json, value, name, message, traceback)))


def call_body(method, arguments):
    return text(method + "\0") + text(arguments + b"\0")


def bundle(*items):
    return struct.pack("I", len(items)) + b"".join(
        text(mime.encode() + b"\0" if isinstance(mime, str) else mime) + text(data)
        for mime, data in items)
'''


class Forgery:
    """A session that lies to the gateway."""

    def setUp(self):
        self.neighbour = self.session()
        self.server.execute(self.neighbour, "kept = 'the neighbour'")
        self.attacker = self.session()
        self.server.execute(self.attacker, FORGERY)
        self.gateway = self.server.process.pid
        self.settle()
        self.descriptors_before = hostile.descriptor_count(self.gateway)
        self.bytes_before = hostile.resident_bytes(self.gateway)

    def tearDown(self):
        """Whatever it did: everybody else is as before, and the identifier works again."""
        self.assertIsNone(self.server.process.poll(), "the gateway is gone")
        self.assert_answers(self.neighbour, "kept", "the neighbour")
        # A lie that is found out later ends the session under the next cell; the one after is fine.
        replies = [self.server.execute(self.attacker, "0") for _ in range(2)]
        self.assertEqual(replies[1]["status"], "Succeeded", replies)
        self.assert_answers(self.attacker, "6 * 7", 42)
        self.assert_answers(self.session(), "1 + 1", 2)
        self.settle()
        self.assertTrue(hostile.wait_until(
            lambda: hostile.descriptor_count(self.gateway) <= self.descriptors_before + 4 * 3),
            "the gateway keeps descriptors: "
            f"{self.descriptors_before}, then {hostile.descriptor_count(self.gateway)}")
        grown = hostile.resident_bytes(self.gateway) - self.bytes_before
        self.assertLess(grown, KEPT_BYTES_MAX, "the gateway keeps memory")

    def settle(self):
        """Until the ready sessions have been made again."""
        ready = self.server.config["pools"][0]["ready_sessions"]

        def is_settled():
            text = self.server.request("GET", "metrics").body.decode()
            for line in text.splitlines():
                if line.startswith("#") or "eady" not in line.partition("{")[0]:
                    continue
                return float(line.split()[-1]) >= ready
            return True

        hostile.wait_until(is_settled, 3)

    def assert_answers(self, identifier, code, value):
        start = time.monotonic()
        reply = self.server.execute(identifier, code)
        self.assertEqual(reply["result"]["executionResult"], value, reply)
        self.assertLess(time.monotonic() - start, ANSWER_SECONDS)

    def attack(self, code, timeout=5, identifier=None):
        """Runs it in the attacker's session; its reply, which has to be well-formed."""
        peak = [0]
        done = threading.Event()

        def watch():
            while not done.wait(0.01):
                peak[0] = max(peak[0], hostile.resident_bytes(self.gateway))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            answer = self.server.request(
                "POST", "executions", identifier or self.attacker,
                {"code": code, "timeoutInSeconds": timeout}, timeout=timeout + 10)
        finally:
            done.set()
            watcher.join()
        self.assertLess(peak[0] - self.bytes_before, GROWTH_BYTES_MAX, "the gateway grew")
        self.assertEqual(answer.status, 200, answer)
        reply = json.loads(answer.body.decode("utf-8"))
        self.assertIn(reply["status"], {"Succeeded", "Failed", "Canceled"})
        self.assertIn(reply["verdict"], VERDICTS)
        self.assertIsInstance(reply["result"]["stdout"], str)
        self.assertIsInstance(reply["result"]["stderr"], str)
        self.assertIsInstance(reply["result"]["executionTimeInMilliseconds"], int)
        # What came is what Python can write again: no lone surrogates, no NaN.
        json.dumps(reply, allow_nan=False, ensure_ascii=False).encode("utf-8")
        return reply

    def assert_kills(self, code, timeout=5):
        """The attack ends its session, at once and with that verdict."""
        start = time.monotonic()
        # The cell itself would go on: only the server ends it.
        reply = self.attack(code + "\ntime.sleep(60)", timeout)
        self.assertEqual((reply["status"], reply["verdict"]), ("Failed", "session_killed"), reply)
        self.assertLess(time.monotonic() - start, timeout)
        self.assertEqual(self.server.execute(self.attacker, "1").get("newSession"), True)

    def assert_alone(self, code):
        """The attack has no consequence, not even for its own session."""
        self.server.execute(self.attacker, "mine = 5")
        reply = self.attack(code)
        self.assertEqual(reply["verdict"], "succeeded", reply)
        self.assertEqual(self.server.value(self.attacker, "mine"), 5)

    # --- results ---

    def test_forged_result_of_the_running_execution(self):
        reply = self.attack("send(RESULT, current(), result(value=b'a lie')); time.sleep(0.2)")
        self.assertEqual(reply["result"]["executionResult"], "a lie")
        # Its true result is one that nobody waits for.
        self.assertTrue(hostile.wait_until(lambda: self.server.execute(
            self.attacker, "1").get("newSession"), 3))

    def test_forged_results_of_other_executions(self):
        self.assert_kills("send(RESULT, current() - 1, result())")

    def test_forged_results_of_executions_to_come(self):
        self.assert_kills("for i in range(1, 100): send(RESULT, current() + i, result())")

    def test_forged_result_of_a_neighbours_execution(self):
        number = {}
        self.server.execute(self.neighbour, hostile.TOOLS + FORGERY)
        thread = threading.Thread(target=lambda: number.update(self.server.execute(
            self.neighbour, "open('number', 'w').write(str(current()))\ntime.sleep(1.5)\n'true'")))
        thread.start()
        self.assertTrue(hostile.wait_until(lambda: self.server.request(
            "GET", "files/number/content", self.neighbour).body.strip().isdigit()))
        target = int(self.server.request("GET", "files/number/content", self.neighbour).body)
        self.assert_kills(f"send(DISPLAY, {target}, bundle(('text/plain', b'a lie')))\n"
                          f"send(RESULT, {target}, result(value=b'a lie'))")
        thread.join()
        self.assertEqual(number["result"]["executionResult"], "true")
        self.assertNotIn("displays", number)

    def test_result_between_executions(self):
        self.attack("""
number = current()
def late():
    time.sleep(0.2)
    send(RESULT, number, result())
    send(RESULT, number + 1, result())
threading.Thread(target=late, daemon=True).start()
""")
        time.sleep(0.5)
        self.assertEqual(self.server.execute(self.attacker, "1").get("newSession"), True)

    def test_result_twice(self):
        self.attack("n = current()\nfor _ in range(2): send(RESULT, n, result())\ntime.sleep(0.3)")
        time.sleep(0.2)
        self.assertEqual(self.server.execute(self.attacker, "1").get("newSession"), True)

    def test_results_with_values_that_are_no_json(self):
        """Of each kind of value, with what is not JSON, not of that kind, or not UTF-8."""
        values = [b"{", b"[" * 8000, b"NaN", b"Infinity", b"1e999", b"-", b"nul", b"\"", b"\xff\xfe",
                  b"9" * 5000, b"{\"a\":1}", b"0x10", b"1 2", b"\0", b"\xed\xa0\x80", b"true", b"\"x\""]
        for kind in range(1, 7):
            for value in values[kind % 2::2]:
                with self.subTest(kind=kind, value=value[:20]):
                    identifier = self.session()
                    self.server.execute(identifier, FORGERY)
                    reply = self.attack(
                        f"send(RESULT, current(), result(kind={kind}, json={value!r}, "
                        f"value={value!r})); time.sleep(60)", identifier=identifier)
                    self.assertEqual(reply["verdict"], "succeeded")
                    self.server.request("DELETE", "session", identifier)

    def test_results_with_texts_that_are_no_utf8(self):
        for status, kind in ((1, 0), (2, 0), (3, 0), (0, 5), (0, 6)):
            identifier = self.session()
            self.server.execute(identifier, FORGERY)
            bad = bytes(range(256)) + b"\xed\xa0\x80\xc0\x80\xf5\xff" + b"</script>\x1b[31m"
            reply = self.attack(f"""
print("out")
os.write(1, {bad!r}); os.write(2, {bad!r})
send(RESULT, current(), result(status={status}, kind={kind}, value={bad!r}, name={bad!r},
     message={bad!r}, traceback={bad!r}, exit_code=0xffffffff, duration=2 ** 64 - 1))
time.sleep(60)""", identifier=identifier)
            self.assertTrue(reply["result"]["stdout"].startswith("out\n"))
            self.server.request("DELETE", "session", identifier)

    def test_results_out_of_range(self):
        for field in ("status", "kind", "limit"):
            for value in (7, 100, 255):
                with self.subTest(field=field, value=value):
                    self.assert_kills(f"send(RESULT, current(), result({field}={value}))")
                    self.server.execute(self.attacker, hostile.TOOLS)
                    self.server.execute(self.attacker, FORGERY)

    def test_results_that_are_cut_or_too_long(self):
        for body in ("b''", "result()[:-1]", "result() + b'x'", "result()[:20]",
                     "result()[:35] + struct.pack('I', 2 ** 32 - 1)",
                     "result()[:35] + struct.pack('I', 2 ** 31) + b'x' * 1000"):
            with self.subTest(body=body):
                self.assert_kills(f"send(RESULT, current(), {body})")
                self.server.execute(self.attacker, hostile.TOOLS)
                self.server.execute(self.attacker, FORGERY)

    def test_large_results_do_not_pile_up(self):
        """Final executions are kept for look-ups: within a bound, whichever field is large."""
        for field in ("json", "message"):
            with self.subTest(field=field):
                identifier = self.session()
                self.server.execute(identifier, FORGERY)
                self.attack(f"large = b'x' * (14 << 20)\n"
                            f"answer_instead(lambda ref: result(status=1, {field}=large))",
                            identifier=identifier, timeout=60)
                for _ in range(16):
                    self.attack("1", identifier=identifier)
                self.server.request("DELETE", "session", identifier)

    def test_runs_of_output_do_not_pile_up(self):
        """A byte to stdout, a byte to stderr: what is kept beside the bytes is bounded too."""
        reply = self.attack("""
end = time.monotonic() + 1.5
while time.monotonic() < end:
    for _ in range(200):
        os.write(1, b"o"); os.write(2, b"e")
""", timeout=10)
        self.assertIn(reply["verdict"], {"succeeded", "output_limit"})

    # --- host calls ---

    def attack_again(self):
        self.server.execute(self.attacker, hostile.TOOLS)
        self.server.execute(self.attacker, FORGERY)

    def test_host_calls_that_are_malformed(self):
        for what in ("send(HOST_CALL, 1, b'')",
                     "send(HOST_CALL, 1, call_body('a.b', b'{}')[:-1])",
                     "send(HOST_CALL, 1, call_body('a.b', b'{}') + b'x')",
                     "send(HOST_CALL, 1, call_body('', b'{}'))",
                     "send(HOST_CALL, 1, call_body('x' * 64, b'{}'))",
                     "send(HOST_CALL, 1, call_body('a b', b'{}'))",
                     "send(HOST_CALL, 1, call_body('A', b'{}'))",
                     "send(HOST_CALL, 1, call_body('a', b'x\\0y'))",
                     "send(HOST_CANCEL, 1, b'x')",
                     "send_whole(HOST_CALL, 1, call_body('a', b'x' * (9 << 20)))"):
            with self.subTest(what=what):
                self.assert_kills(what)
                self.attack_again()

    def test_bytes_of_host_calls_that_nobody_asked_for(self):
        for what in ("send(HOST_PUT, 1, b'x')", "send(HOST_PUT, 1, b'x' * PIECE, MORE)",
                     "send(HOST_CANCEL, 1, b'', MORE)"):
            with self.subTest(what=what):
                self.assert_kills(what)
                self.attack_again()

    def test_answers_are_not_for_sessions_to_send(self):
        for what in ("send(HOST_REPLY, 1, b'\\1' + text(b'{}\\0'))", "send(HOST_BYTES, 1, b'x')"):
            with self.subTest(what=what):
                self.assert_kills(what)
                self.attack_again()

    def test_host_calls_between_executions(self):
        for what in ("send(HOST_CALL, 9, call_body('artifacts.list', b'{}'))",
                     "send(HOST_PUT, 9, b'x')", "send(HOST_CANCEL, 9)"):
            with self.subTest(what=what):
                self.attack(f"def late():\n    time.sleep(0.2)\n    {what}\n"
                            "threading.Thread(target=late, daemon=True).start()")
                time.sleep(0.5)
                self.assertEqual(self.server.execute(self.attacker, "1").get("newSession"), True)
                self.attack_again()

    def test_cancelling_what_is_not_there(self):
        self.assert_alone("for i in range(1000): send(HOST_CANCEL, i)")

    def test_a_flood_of_host_calls(self):
        """Answers that nobody takes pile up within a bound, and the session is the one that ends."""
        reply = self.attack("""
end = time.monotonic() + 1.5
n = 1 << 40
while time.monotonic() < end:
    n += 1
    send(HOST_CALL, n, call_body('no.such.method', b'{}'))
""", timeout=10)
        self.assertIn(reply["verdict"], {"succeeded", "session_killed"})

    # --- packets ---

    def test_truncated_headers(self):
        for size in (0, 1, 4, 8, 12, 15):
            with self.subTest(size=size):
                self.assert_kills(f"control.send(struct.pack('IIQ', RESULT, 0, 1)[:{size}])")
                self.server.execute(self.attacker, hostile.TOOLS)
                self.server.execute(self.attacker, FORGERY)

    def test_unknown_types_and_flags(self):
        for what in ("send(0)", "send(52)", "send(99)", "send(2 ** 32 - 1)", "send(DISPLAY, flags=2)",
                     "send(RESULT, flags=2 ** 31)"):
            with self.subTest(what=what):
                self.assert_kills(what)
                self.server.execute(self.attacker, hostile.TOOLS)
                self.server.execute(self.attacker, FORGERY)

    def test_messages_of_the_gateway_and_of_the_keeper(self):
        sessions = set(hostile.sessions_of(self.server))
        own = hostile.sessions_of(self.server)
        for kind in (1, 2, 3, 4, 16, 17, 18, 19, 20, 21, 32):
            with self.subTest(kind=kind):
                self.assert_kills(f"for ref in range(50): send({kind}, ref, bytes(4))")
                self.server.execute(self.attacker, hostile.TOOLS)
                self.server.execute(self.attacker, FORGERY)
        self.assertGreaterEqual(len(sessions & set(hostile.sessions_of(self.server))), len(own) - 5)

    def test_message_without_end(self):
        self.assert_kills("while True: send(DISPLAY, 1, bytes(PIECE), MORE)", timeout=20)

    def test_message_of_64_mb(self):
        self.assert_kills(
            "send_whole(RESULT, current(), result(value=b'x' * (64 << 20)))", timeout=20)

    def test_oversized_packets(self):
        self.assert_kills("""
control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
for size in (PIECE + 1, 100000, 150000):
    attempt(send, DISPLAY, 1, bytes(size))""")

    def test_pieces_of_two_messages_mixed(self):
        self.assert_kills("send(DISPLAY, 1, b'x', MORE)\nsend(RESULT, 2, b'x', MORE)")

    def test_many_empty_pieces(self):
        self.assert_kills("""
for _ in range(20000): send(DISPLAY, 1, b'', MORE)
send(DISPLAY, 1, b'')""", timeout=20)

    def test_half_a_message_then_exit(self):
        reply = self.attack("send(RESULT, current(), result()[:10], MORE); os._exit(0)")
        self.assertEqual(reply["verdict"], "session_killed")

    def test_half_a_message_then_a_true_result(self):
        reply = self.attack("send(RESULT, current(), result(), MORE)")
        # The true result continues the forged one: no message any more, or no result.
        self.assertEqual(reply["verdict"], "session_killed")

    def test_half_messages_of_many_sessions(self):
        """What the gateway holds for sessions that never finish is bounded for each of them."""
        attackers = [self.session() for _ in range(4)]
        for identifier in attackers:
            self.server.execute(identifier, FORGERY)
            self.server.execute(
                identifier, "for _ in range(64): send(DISPLAY, 1, bytes(PIECE), MORE)\nNone")
        time.sleep(0.3)
        self.assertLess(hostile.resident_bytes(self.gateway) - self.bytes_before, 64 << 20)
        for identifier in attackers:
            self.server.request("DELETE", "session", identifier)
        time.sleep(0.3)

    # --- sealing, descriptors ---

    def assert_refuses_descriptors(self, code):
        """Where the kernel can (Linux 6.16) they cannot be sent; else their sender is ended."""
        reply = self.attack(code + "\ntime.sleep(60)", 5)
        if reply["verdict"] != "session_killed":
            self.assertEqual(reply["error"]["error"]["code"], "PermissionError", reply)
        self.assertLessEqual(hostile.descriptor_count(self.gateway), self.descriptors_before + 12)

    def test_sealed_a_second_time(self):
        self.assert_refuses_descriptors(
            "send(SEALED, 0, b'', 0, [os.open('/usr/lib', os.O_RDONLY)])")

    def test_sealed_a_second_time_without_directory(self):
        self.assert_kills("send(SEALED)")

    def test_walls_failed_after_they_stood(self):
        self.assert_kills("send(WALLS_FAILED, 0, text('the host is on fire' + chr(0)))")

    def test_descriptors_on_displays(self):
        for fds in ("[r]", "[w]", "[r, w, 0]", "[r] * 250", "[control_fd] * 3"):
            with self.subTest(fds=fds):
                self.assert_refuses_descriptors(f"""
r, w = os.pipe()
send(DISPLAY, 0, bundle(("text/plain", b"x")), 0, {fds})""")

    def test_descriptors_on_a_result(self):
        self.assert_refuses_descriptors("send(RESULT, current(), result(), 0, [0] * 200)")

    def test_descriptors_on_a_message_without_an_end(self):
        self.assert_refuses_descriptors("send(DISPLAY, 1, bytes(8), MORE, [0])")

    def test_own_descriptor_in_flight_to_itself(self):
        self.assert_alone("""
for _ in range(50):
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [b.fileno()]))])
    a.close(); b.close()
1""")

    # --- displays ---

    def test_mime_types_that_are_none(self):
        for mime in (r"''", r"'a b'", r"'text/\n'", r"'x' * 200", r"b'text/plain'", r"b'text\0/x\0'",
                     r"b'\xff\xfe\0'", r"'\x7f'", r"'\u00e9/\u00e9'", r"b''"):
            with self.subTest(mime=mime):
                self.assert_kills(f"send(DISPLAY, current(), bundle(({mime}, b'data')))")
                self.server.execute(self.attacker, hostile.TOOLS)
                self.server.execute(self.attacker, FORGERY)

    def test_displays_with_data_that_is_none(self):
        bad = bytes(range(256)) + b"\xed\xa0\x80"
        reply = self.attack(f"""
n = current()
for mime in ("text/plain", "text/html", "image/png", "image/jpeg", "image/svg+xml", "__proto__",
             "application/json", "application/x", "<script>", '"}}', "$id", "type"):
    send(DISPLAY, n, bundle((mime, {bad!r})))
    send(DISPLAY, n, bundle((mime, b"")))
send(DISPLAY, n, bundle())
send(DISPLAY, n, bundle(("a/b", b"1"), ("a/b", b"2")))
1""")
        self.assertEqual(reply["verdict"], "succeeded")

    def test_displays_that_are_cut_or_too_many(self):
        for body in ("b''", "struct.pack('I', 2 ** 32 - 1)", "struct.pack('I', 10 ** 6)",
                     "bundle(('text/plain', b'x'))[:-1]", "bundle(('text/plain', b'x')) + b'x'",
                     "bundle(*[('text/plain', b'x')] * 1000)",
                     "struct.pack('II', 1, 2 ** 32 - 1) + b'x'"):
            with self.subTest(body=body):
                self.assert_kills(f"send(DISPLAY, current(), {body})")
                self.server.execute(self.attacker, hostile.TOOLS)
                self.server.execute(self.attacker, FORGERY)

    def test_more_displays_than_are_kept(self):
        reply = self.attack("""
n = current()
for _ in range(3000): send(DISPLAY, n, bundle(("text/plain", b"x" * 1000)))
1""", timeout=20)
        self.assertGreater(reply["truncated"]["displays"], 0)

    def test_displays_larger_than_are_kept(self):
        reply = self.attack("""
n = current()
for _ in range(4): send_whole(DISPLAY, n, bundle(("text/plain", b"x" * (14 << 20))))
1""", timeout=20)
        self.assertGreater(reply["truncated"]["displays"], 0)

    def test_displays_of_no_execution(self):
        self.assert_alone("for ref in (0, 1, 2 ** 64 - 1): send(DISPLAY, ref, bundle())\n1")

    # --- the socket itself ---

    def test_stolen_execution(self):
        """Other code of the session takes its next cell and never answers: only that cell waits."""
        self.attack("""
def swallow():
    while True:
        control.recv(1 << 16)
threading.Thread(target=swallow, daemon=True).start()
send(RESULT, current(), result())
time.sleep(600)""")
        start = time.monotonic()
        reply = self.attack("'untouched'", timeout=1)
        self.assertEqual(reply["verdict"], "time_limit")
        self.assertLess(time.monotonic() - start, 4)

    def test_stolen_and_answered_execution(self):
        self.attack("answer_instead(lambda ref: result(value=b'stolen'))")
        for _ in range(3):
            reply = self.attack("'untouched'", timeout=1)
            self.assertEqual(reply["result"]["executionResult"], "stolen")
        self.server.request("DELETE", "session", self.attacker)

    def test_answered_by_a_child(self):
        self.attack("""
if os.fork() == 0:
    while True:
        kind, flags, ref = struct.unpack("IIQ", control.recv(1 << 16)[:16])
        send(RESULT, ref, result(value=b"the child's"))
send(RESULT, current(), result())
time.sleep(600)""")
        reply = self.attack("'untouched'", timeout=1)
        self.assertEqual(reply["result"]["executionResult"], "the child's")
        self.server.request("DELETE", "session", self.attacker)

    def test_socket_closed(self):
        reply = self.attack("os.close(control_fd); control.close()")
        self.assertEqual(reply["verdict"], "session_killed")

    def test_socket_closed_and_kept_by_a_child(self):
        reply = self.attack("""
if os.fork() == 0:
    time.sleep(60)
os.close(control_fd); control.close()""")
        self.assertEqual(reply["verdict"], "session_killed")

    def test_socket_shut_down(self):
        for how in ("SHUT_RDWR", "SHUT_WR", "SHUT_RD"):
            with self.subTest(how=how):
                reply = self.attack(f"control.shutdown(socket.{how})", timeout=2)
                self.assertIn(reply["verdict"], {"session_killed", "succeeded"})
                # Where the session ends by itself the gateway may learn of it from the next cell.
                self.assertTrue(hostile.wait_until(lambda: self.server.execute(
                    self.attacker, "1")["status"] == "Succeeded", 2))
                self.server.execute(self.attacker, hostile.TOOLS)
                self.server.execute(self.attacker, FORGERY)

    def test_socket_shut_down_in_a_cell_that_goes_on(self):
        self.assert_kills("control.shutdown(socket.SHUT_RDWR)")

    def test_socket_made_non_blocking(self):
        self.attack("control.setblocking(False)")
        self.attack("1")

    def test_socket_replaced(self):
        reply = self.attack("""
os.close(control_fd); control.close()
for _ in range(300): os.open("/dev/null", os.O_RDWR)
attempt(os.dup2, 0, control_fd)""", timeout=2)
        self.assertIn(reply["verdict"], {"session_killed", "time_limit"})

    def test_socket_filled(self):
        """Messages as fast as they go, with output at the same time; neighbours are not delayed."""
        self.attack("""
def flood():
    message = struct.pack("IIQ", DISPLAY, 0, 0) + bundle(("text/plain", b"x" * 60000))
    while True:
        control.send(message)
def noise(fd):
    while True:
        os.write(fd, b"x" * 65536)
for target, args in ((flood, ()), (flood, ()), (noise, (1,)), (noise, (2,))):
    threading.Thread(target=target, args=args, daemon=True).start()
""")
        slowest = 0
        for _ in range(20):
            start = time.monotonic()
            self.assertEqual(self.server.value(self.neighbour, "kept"), "the neighbour")
            slowest = max(slowest, time.monotonic() - start)
        self.assertLess(slowest, 0.5)
        reply = self.attack("time.sleep(0.3); 1", timeout=3)
        self.assertIn(reply["verdict"], {"output_limit", "succeeded", "time_limit"})
        self.server.request("DELETE", "session", self.attacker)

    def test_large_messages_without_pause(self):
        self.attack("""
whole = bundle(("text/plain", b"x" * (16 << 20)))
def flood():
    while True:
        send_whole(DISPLAY, 0, whole)
threading.Thread(target=flood, daemon=True).start()
""")
        slowest = 0
        for _ in range(10):
            start = time.monotonic()
            self.assertEqual(self.server.value(self.neighbour, "kept"), "the neighbour")
            slowest = max(slowest, time.monotonic() - start)
            time.sleep(0.05)
        self.assertLess(slowest, 0.5)
        self.server.request("DELETE", "session", self.attacker)

    def test_output_and_forged_result_at_once(self):
        reply = self.attack("""
n = current()
def noise(fd):
    while True:
        os.write(fd, b"y" * 65536)
for fd in (1, 2): threading.Thread(target=noise, args=(fd,), daemon=True).start()
time.sleep(0.1)
send(RESULT, n, result())
time.sleep(0.1)""")
        self.assertEqual(reply["result"]["executionResult"], "forged")
        self.assertLess(len(reply["result"]["stdout"]), 2 << 20)

    def test_code_that_is_never_read(self):
        """The gateway holds what a session does not take, within a bound."""
        self.server.execute(self.attacker, "control.setsockopt(1, socket.SO_RCVBUF, 4096)")
        self.server.execute(self.attacker, "hang = [threading.Thread(target=time.sleep, args=(9,))]")
        big = "x = '" + "y" * (4 << 20) + "'"
        replies = []

        def post(code, timeout):
            replies.append(self.server.request(
                "POST", "executions", self.attacker, {"code": code, "timeoutInSeconds": timeout},
                timeout=30))

        threads = [threading.Thread(target=post, args=("while True: pass", 1))]
        threads += [threading.Thread(target=post, args=(big, 1)) for _ in range(4)]
        for thread in threads:
            thread.start()
        self.assert_answers(self.neighbour, "kept", "the neighbour")
        for thread in threads:
            thread.join()
        self.assertEqual({r.status for r in replies} - {200, 413}, set())


# The gateway reads the same bytes at every level.
hostile.each_level(globals(), Forgery, levels=hostile.LEVELS[:1])


def tearDownModule():
    hostile.stop_servers()


if __name__ == "__main__":
    unittest.main()
