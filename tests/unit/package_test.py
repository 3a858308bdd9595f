"""The Python package without Carrel's server: its HTTP, its client, its sessions, its wheel."""

import ast
import asyncio
import base64
import concurrent.futures
import hashlib
import inspect
import json
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import warnings
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tests" / "lib")]

import carrel  # noqa: E402
import carrel.blocking  # noqa: E402
from carrel import _server  # noqa: E402
from carrel._http import IDLE_SECONDS_MAX, HttpClient  # noqa: E402
from carrel.execution import Capability, ContainerConfig, ContainerExecutor  # noqa: E402
from fake_session_server import FakeSessionServer, ScriptedServer, read_request  # noqa: E402

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
OK = HEAD + b"Content-Length: 2\r\n\r\n42"


def get(url, path="/x", timeout=5, **options):
    """One GET of a fresh client; its response."""
    async def ask():
        client = HttpClient(url, **options)
        try:
            return await client.request("GET", path, timeout=timeout)
        finally:
            await client.close()
    return asyncio.run(ask())


class HttpTest(unittest.TestCase):
    """Answers as they come from the network, well-formed and not."""

    def answered(self, *answers, **options):
        with ScriptedServer(*answers) as server:
            return get(server.url, **options)

    def test_an_answer_by_its_length(self):
        response = self.answered(OK)
        self.assertEqual((response.status, response.json()), (200, 42))
        self.assertEqual(response.media_type, "application/json")

    def test_an_answer_in_chunks(self):
        body = b"4;x=y\r\n[1,2\r\n3\r\n,3]\r\n0\r\nTrailer: x\r\n\r\n"
        response = self.answered(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body)
        self.assertEqual(response.json(), [1, 2, 3])

    def test_an_answer_until_the_end(self):
        self.assertEqual(self.answered(HEAD + b"\r\n[7]").json(), [7])

    def test_interim_answers_are_passed_over(self):
        self.assertEqual(self.answered(b"HTTP/1.1 100 Continue\r\n\r\n" + OK).json(), 42)

    def test_no_content(self):
        self.assertEqual(self.answered(b"HTTP/1.1 204 No Content\r\n\r\n").body, b"")

    def test_what_is_not_http_is_said_so(self):
        many = HEAD + b"".join(b"X-%d: y\r\n" % i for i in range(300)) + b"\r\n"
        bad = {
            "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
            "an endless line": b"HTTP/1.1 200 " + b"x" * 200000,
            "endless headers": many,
            "large headers": HEAD + (b"X: " + b"y" * 30000 + b"\r\n") * 3 + b"\r\n",
            "a header without a name": HEAD + b": x\r\n\r\n",
            "a header with a blank": HEAD + b"Content-Length : 2\r\n\r\n42",
            "a negative length": HEAD + b"Content-Length: -1\r\n\r\n",
            "a length of words": HEAD + b"Content-Length: two\r\n\r\n",
            "a chunk of no size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            "a chunk with no end": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n",
            "an unknown coding": HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
            "endless interims": b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
        }
        for name, answer in bad.items():
            with self.subTest(name), self.assertRaises(carrel.ProtocolError):
                self.answered(answer)

    def test_a_body_has_a_bound(self):
        for answer in (HEAD + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001,
                       HEAD + b"\r\n" + b"x" * 1001,
                       HEAD + b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001):
            with self.assertRaisesRegex(carrel.ProtocolError, "1000 bytes"):
                self.answered(answer, body_bytes_max=1000)
        exact = HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000
        self.assertEqual(len(self.answered(exact, body_bytes_max=1000).body), 1000)

    def test_an_answer_that_breaks_off(self):
        for answer in (b"", b"HTTP/1.1 200 OK\r\nContent-", HEAD + b"Content-Length: 5\r\n\r\n42"):
            with self.subTest(answer), self.assertRaisesRegex(carrel.ConnectionFailed, "closed"):
                self.answered(answer)

    def test_nobody_there(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with self.assertRaises(carrel.ConnectionFailed) as caught:
            get(f"http://127.0.0.1:{port}")
        self.assertIsInstance(caught.exception, ConnectionError)
        self.assertIn(str(port), str(caught.exception))

    def test_a_slow_answer_is_given_up(self):
        closed = threading.Event()

        def wait(connection):
            connection.sendall(HEAD)  # and no more
            if not connection.recv(1):
                closed.set()

        start = time.monotonic()
        with ScriptedServer(wait) as server:
            with self.assertRaises(carrel.RequestTimeout) as caught:
                get(server.url, timeout=0.2)
            self.assertLess(time.monotonic() - start, 3)
            self.assertIsInstance(caught.exception, TimeoutError)
            self.assertTrue(closed.wait(5), "the connection stayed open")

    def test_a_connection_is_used_again(self):
        def two(connection):
            connection.sendall(OK)
            read_request(connection)
            connection.sendall(OK)

        async def ask(url):
            client = HttpClient(url)
            for _ in range(2):
                await client.request("POST", "/x", timeout=5, body=b"{}")
            await client.close()

        with ScriptedServer(two) as server:
            asyncio.run(ask(server.url))
            self.assertEqual(server.connections, 1)

    def test_a_connection_that_is_to_close_is_not_used_again(self):
        """Though the server leaves it open: it said that it will close it."""
        def stay(connection):
            connection.sendall(HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\n42")
            connection.recv(1)

        async def ask(url):
            client = HttpClient(url)
            for _ in range(2):
                await client.request("POST", "/x", timeout=5, body=b"{}")
            await client.close()

        with ScriptedServer(stay, stay) as server:
            asyncio.run(ask(server.url))
            self.assertEqual(server.connections, 2)

    def test_a_connection_that_has_been_idle_is_not_used_again(self):
        def two(connection):
            connection.sendall(OK)
            read_request(connection)
            connection.sendall(OK)

        async def ask(url, idle_seconds):
            client = HttpClient(url)
            await client.request("POST", "/x", timeout=5, body=b"{}")
            client._idle[0].idle_since -= idle_seconds
            await client.request("POST", "/x", timeout=5, body=b"{}")
            await client.close()

        # The server closes them after 75 seconds.
        for idle_seconds, connections in ((IDLE_SECONDS_MAX - 5, 1), (IDLE_SECONDS_MAX + 0.1, 2)):
            self.assertLess(idle_seconds, 75 - 5)
            with ScriptedServer(two, two) as server:
                asyncio.run(ask(server.url, idle_seconds))
                self.assertEqual(server.connections, connections, idle_seconds)

    def test_only_what_is_harmless_is_sent_twice(self):
        """A connection that the server closes when the next request comes."""
        def once(connection):
            connection.sendall(OK)
            read_request(connection)

        async def ask(url, method):
            client = HttpClient(url)
            await client.request(method, "/x", timeout=5)
            await asyncio.sleep(0.05)
            response = await client.request(method, "/x", timeout=5)
            await client.close()
            return response.json()

        with ScriptedServer(once, OK) as server:
            self.assertEqual(asyncio.run(ask(server.url, "GET")), 42)
            self.assertEqual(server.connections, 2)
        with ScriptedServer(once, OK) as server:
            with self.assertRaises(carrel.ConnectionFailed):
                asyncio.run(ask(server.url, "POST"))
            self.assertEqual(server.connections, 1)

    def test_connections_have_a_bound(self):
        with FakeSessionServer() as fake:
            peak = []

            async def ask():
                client = HttpClient(fake.url, connections_max=3)
                done = await asyncio.gather(*(
                    client.request("GET", "/health", timeout=10) for _ in range(30)))
                peak.append(len(client._open))
                await client.close()
                return done

            self.assertEqual([r.status for r in asyncio.run(ask())], [200] * 30)
            self.assertLessEqual(peak[0], 3)

    def test_one_client_in_one_loop_after_the_other(self):
        with FakeSessionServer() as fake:
            client = HttpClient(fake.url)
            for _ in range(3):
                response = asyncio.run(client.request("GET", "/health", timeout=5))
                self.assertEqual(response.status, 200)

    def test_headers_cannot_be_smuggled(self):
        async def ask(name, value):
            await HttpClient("http://127.0.0.1:1").request(
                "GET", "/", timeout=1, headers={name: value})
        for name, value in (("X", "a\r\nEvil: 1"), ("X\r\nEvil", "1"), ("X", "snow \u2603"),
                            ("X", "nul\0"), ("X y", "1"), ("", "1")):
            with self.subTest(name=name, value=value), self.assertRaises(ValueError):
                asyncio.run(ask(name, value))

    def test_urls(self):
        for bad in ("localhost:8080", "ftp://host", "http://", "http://me:pw@host", "http://h/?q=1"):
            with self.subTest(bad), self.assertRaises(ValueError):
                HttpClient(bad)
        self.assertEqual(HttpClient("http://[::1]:81/a b/")._prefix, "/a%20b")

    def test_a_path_before_every_route(self):
        with ScriptedServer(OK) as server:
            get(server.url + "/carrel/")
        self.assertTrue(server.received[0].startswith(b"GET /carrel/x HTTP/1.1\r\nHost: 127.0.0.1:"))

    def test_a_refused_upload_still_tells_why(self):
        """The server answers and closes without reading a large body."""
        def refuse(connection):
            connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n"
                               b"Connection: close\r\n\r\n{}")
            connection.shutdown(socket.SHUT_WR)
            time.sleep(0.2)

        async def ask(url):
            return await HttpClient(url).request("POST", "/x", timeout=5, body=b"x" * (8 << 20))

        with socket.create_server(("127.0.0.1", 0)) as listener:
            def serve():
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)
                    refuse(connection)
            threading.Thread(target=serve, daemon=True).start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            self.assertEqual(asyncio.run(ask(url)).status, 413)

    def test_tls_is_checked(self):
        with tempfile.TemporaryDirectory() as directory:
            import ssl
            key, cert = f"{directory}/key.pem", f"{directory}/cert.pem"
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out",
                 cert, "-days", "1", "-subj", "/CN=localhost", "-addext",
                 "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert, key)
            listener = context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)

            def serve():
                while True:
                    try:
                        connection, _ = listener.accept()
                    except ssl.SSLError:
                        continue
                    except OSError:
                        return
                    with connection:
                        read_request(connection)
                        connection.sendall(OK)
            threading.Thread(target=serve, daemon=True).start()
            url = f"https://127.0.0.1:{listener.getsockname()[1]}"
            with self.assertRaisesRegex(carrel.ConnectionFailed, "certificate verify failed"):
                get(url)
            trusting = ssl.create_default_context(cafile=cert)
            self.assertEqual(get(url, ssl_context=trusting).json(), 42)
            listener.close()


class ClientCase(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.fake = self.enterContext(FakeSessionServer())

    def client(self, **options):
        options.setdefault("auth_token", self.fake.token)
        return carrel.SessionClient(self.fake.url, **options)

    def last(self):
        """(method, path, headers, body) of the last request."""
        return self.fake.requests[-1]


class ClientTest(ClientCase):
    """SessionClient: what it sends, and what it makes of the answers."""

    async def test_a_cell(self):
        async with self.client() as client:
            await client.execute("x = 20; print('hi')")
            done = await client.execute("x + 22", timeout=7)
        self.assertEqual((done.value, done.stdout, done.error, done.is_ok), (42, "", None, True))
        self.assertEqual(done.extra, {"anything_new": 1})
        method, path, headers, body = self.last()
        self.assertEqual((method, path, body), ("POST", "/execute?extensions=true",
                                                {"code": "x + 22", "timeout": 7}))
        self.assertEqual(headers["X-Session-ID"], client.session_id)
        self.assertEqual(headers["Authorization"], "Bearer secret-token")
        self.assertEqual(headers["Content-Type"], "application/json")
        self.assertEqual(self.fake.requests[0][3], {"code": "x = 20; print('hi')"})

    async def test_an_error_of_the_code_is_a_result(self):
        done = await self.client().execute("1 / 0")
        self.assertFalse(done.is_ok)
        self.assertIn("ZeroDivisionError", done.error)
        self.assertEqual(done.verdict, "exception")

    async def test_the_timeout_of_a_cell_raises_that_of_http(self):
        """What py-code-mode's own client does not do: run(…, timeout=120) dies after 30 s there."""
        client = self.client(timeout=0.2)
        self.assertEqual((await client.execute("sleep(0.6) or 5", timeout=2)).value, 5)
        seen = []

        async def note(*_args, timeout, **_options):
            seen.append(timeout)
            raise carrel.RequestTimeout("noted")
        client._http.request = note
        for timeout in (None, 120):
            with self.assertRaises(carrel.RequestTimeout):
                await client.execute("1", timeout=timeout)
        self.assertEqual(len(seen), 2)
        self.assertGreater(seen[1], 120)
        self.assertLess(seen[0], 30)

    async def test_health_sends_no_token(self):
        health = await self.client().health()
        self.assertEqual((health.status, health.uptime_seconds), ("healthy", 1.5))
        self.assertNotIn("Authorization", self.last()[2])
        self.assertNotIn("X-Session-ID", self.last()[2])

    async def test_refusals(self):
        client = self.client(auth_token="wrong")
        with self.assertRaisesRegex(carrel.AuthenticationError, "Invalid token") as caught:
            await client.execute("1")
        self.assertEqual((caught.exception.status, caught.exception.detail), (401, "Invalid token"))
        self.assertNotIn("wrong", str(caught.exception))
        with self.assertRaisesRegex(carrel.InvalidRequest, "body.code: Field required"):
            await self.client().execute(None)
        with self.assertRaisesRegex(ValueError, "Invalid skill name"):
            await self.client().create_skill("not a name", "def run(): pass", "")

    async def test_a_server_of_another_kind(self):
        with ScriptedServer(HEAD + b"Content-Length: 15\r\n\r\n{\"other\": true}") as server:
            with self.assertRaisesRegex(carrel.ProtocolError, "value"):
                await carrel.SessionClient(server.url).execute("1")
        page = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 13\r\n\r\n<html>no</html>"
        with ScriptedServer(page) as server:
            with self.assertRaisesRegex(carrel.ServerError, "502|html") as caught:
                await carrel.SessionClient(server.url).execute("1")
            self.assertEqual(caught.exception.status, 502)

    async def test_sessions_of_the_server(self):
        client = self.client()
        self.assertEqual(await client.init_session("acme"), "issued-acme")
        self.assertEqual(self.last()[3], {"workspace_id": "acme"})
        await client.execute("1")
        self.assertEqual(self.last()[2]["X-Session-ID"], "issued-acme")
        self.assertEqual((await client.reset()).session_id, "issued-acme")
        self.assertEqual(self.last()[2]["Content-Length"], "0")

    async def test_tools(self):
        client = self.client()
        self.assertEqual([t["name"] for t in await client.list_tools()], ["echo"])
        self.assertEqual(await client.search_tools("a b&c=ä", limit=3), [])
        self.assertEqual(self.last()[1], "/api/tools/search?query=a+b%26c%3D%C3%A4&limit=3")

    async def test_skills_and_workflows(self):
        client = self.client()
        made = await client.create_skill("scan", "def run(): pass", "Scan ports")
        self.assertEqual(made["source"], "def run(): pass")
        self.assertEqual([s["name"] for s in await client.list_workflows()], ["scan"])
        self.assertEqual(len(await client.search_skills("ports")), 1)
        self.assertEqual((await client.get_skill("scan"))["description"], "Scan ports")
        self.assertIsNone(await client.get_workflow("none"))
        self.assertTrue(await client.delete_skill("scan"))
        self.assertFalse(await client.delete_workflow("scan"))
        info = await client.info()
        self.assertEqual((info.skills, info.workflows), ([], []))

    async def test_names_stay_one_part_of_the_path(self):
        client = self.client()
        for name, path in (("a/../b", "a%2F..%2Fb"), ("x?y#z", "x%3Fy%23z"), ("ä b", "%C3%A4%20b")):
            await client.get_skill(name)
            self.assertEqual(self.last()[1], f"/api/skills/{path}")
        with self.assertRaises(ValueError):
            await client.delete_skill("")

    async def test_artifacts_keep_their_types(self):
        client = self.client()
        kept = {"text": "grüße\n", "object": {"a": [1, None, 2.5]}, "list": [1, "x"],
                "bytes": bytes(range(256)), "sub/dir/x": "deep"}
        for name, data in kept.items():
            record = await client.save_artifact(name, data, "what", {"k": 1})
            self.assertEqual((record["name"], record["metadata"]), (name, {"k": 1}))
        for name, data in kept.items():
            loaded = await client.load_artifact(name)
            self.assertEqual((loaded, type(loaded)), (data, type(data)))
        self.assertEqual({a["name"] for a in await client.list_artifacts()}, set(kept))
        await client.delete_artifact("sub/dir/x")
        for method in (client.load_artifact, client.delete_artifact):
            with self.assertRaisesRegex(carrel.ArtifactNotFoundError, "^Artifact 'sub/dir/x' not f"):
                await method("sub/dir/x")
        with self.assertRaisesRegex(ValueError, "traversal"):
            await client.save_artifact("../x", "y")

    async def test_what_json_cannot_carry_goes_encoded(self):
        client = self.client()
        data = {"nan": float("nan"), "inf": float("inf"), "lone": "\ud800"}
        await client.save_artifact("odd.json", data)
        body = self.last()[3]
        self.assertEqual((body["encoding"], body["type"]), ("base64", "json"))
        self.assertIn(b"NaN", base64.b64decode(body["data"]))
        loaded = await client.load_artifact("odd.json")
        self.assertNotEqual(loaded["nan"], loaded["nan"])
        self.assertEqual((loaded["inf"], loaded["lone"]), (data["inf"], data["lone"]))

    async def test_artifacts_of_servers_that_answer_json(self):
        for body, data in ((b'"text"', "text"), (b"[NaN]", None), (b'{"a": 1}', {"a": 1})):
            with ScriptedServer(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body) as server:
                loaded = await carrel.SessionClient(server.url).load_artifact("x")
                if data is None:
                    self.assertNotEqual(loaded[0], loaded[0])
                else:
                    self.assertEqual(loaded, data)
            self.assertIn(b"Accept: application/octet-stream\r\n", server.received[0])

    async def test_an_artifact_that_only_says_it_is_json(self):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream; type=json\r\n"
        with ScriptedServer(head + b"Content-Length: 3\r\n\r\n{no") as server:
            self.assertEqual(await carrel.SessionClient(server.url).load_artifact("x"), "{no")

    async def test_dependencies(self):
        client = self.client()
        self.assertEqual((await client.api_add_dep("six"))["installed"], ["six"])
        self.assertEqual(await client.api_list_deps(), ["six"])
        self.assertEqual((await client.api_sync_deps())["failed"], [])
        self.assertEqual(await client.api_remove_dep("six"), {"removed": True})
        self.fake.runtime_deps = False
        with self.assertRaisesRegex(carrel.RuntimeDepsDisabledError, "disabled"):
            await client.api_add_dep("six")


class SessionTest(ClientCase):
    """Session on a server that runs already."""

    def executor(self, **options):
        return ContainerExecutor(ContainerConfig(
            remote_url=self.fake.url, auth_token=self.fake.token, **options))

    async def test_a_conversation(self):
        async with carrel.Session(executor=self.executor()) as session:
            self.assertTrue((await session.run("x = 20")).is_ok)
            result = await session.run("x + 22")
            name = session.session_id
        self.assertEqual((result.value, result.verdict), (42, "succeeded"))
        self.assertEqual(result.backend_info, {"anything_new": 1, "session_id": name,
                                               "url": self.fake.url})
        self.assertEqual(self.last()[:2], ("POST", "/reset"))  # nothing stays on the server
        self.assertEqual((await session.run("1")).error, "Session is closed")
        with self.assertRaisesRegex(carrel.CarrelError, "closed"):
            await session.list_tools()

    async def test_two_sessions_are_two(self):
        async with carrel.Session(executor=self.executor()) as one, \
                carrel.Session(executor=self.executor()) as two:
            await one.run("x = 1")
            self.assertIn("NameError", (await two.run("x")).error)

    async def test_a_named_session_goes_on(self):
        for expected in (None, 5):
            async with carrel.Session(executor=self.executor(), session_id="mine") as session:
                value = (await session.run("globals().get('x')")).value
                await session.run("x = 5")
            self.assertEqual(value, expected)

    async def test_a_workspace(self):
        async with carrel.Session(executor=self.executor(), workspace_id="w") as session:
            self.assertEqual(session.session_id, "issued-w")
            # A session that is reset is in its workspace again.
            self.fake.requests.clear()
            await session.reset()
            self.assertEqual([(path, body) for _, path, _, body in self.fake.requests],
                             [("/reset", None), ("/sessions", {"workspace_id": "w"})])
            self.assertEqual(session.session_id, "issued-w")

    async def test_the_configuration_gives_the_timeout(self):
        async with carrel.Session(executor=self.executor(timeout=12)) as session:
            await session.run("1")
            self.assertEqual(self.last()[3], {"code": "1", "timeout": 12})
            await session.run("1", timeout=3)
            self.assertEqual(self.last()[3], {"code": "1", "timeout": 3})

    async def test_cells_of_one_session_wait_for_each_other(self):
        async with carrel.Session(executor=self.executor()) as session:
            await session.run("log = []")
            await asyncio.gather(*(
                session.run(f"log.append({i}); sleep(0.05); log.append({i})") for i in range(3)))
            self.assertEqual((await session.run("log")).value, [0, 0, 1, 1, 2, 2])

    async def test_cancelling_closes_the_connection(self):
        closed = threading.Event()

        def wait(connection):
            if not connection.recv(1):
                closed.set()

        with ScriptedServer(wait, OK) as server:
            session = carrel.Session(executor=ContainerExecutor(
                ContainerConfig(remote_url=server.url)))
            running = asyncio.create_task(session.run("while True: pass"))
            while not server.received:
                await asyncio.sleep(0.01)
            running.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await running
            loop = asyncio.get_running_loop()
            self.assertTrue(await loop.run_in_executor(None, closed.wait, 5))

    async def test_dependencies_from_the_start(self):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("# of the project\n\nsix>=1.16\n")
            file.flush()
            executor = self.executor(deps=["numpy"], deps_file=file.name)
            async with carrel.Session(executor=executor, sync_deps_on_start=True):
                self.assertEqual(self.fake.deps, {"numpy", "six>=1.16"})

    async def test_dependencies_that_fail_are_told(self):
        self.fake.installable = {"numpy"}
        executor = self.executor(deps=["numpy", "no-such-thing"])
        with self.assertRaisesRegex(carrel.DependencyError, "no-such-thing") as caught:
            async with carrel.Session(executor=executor, sync_deps_on_start=True):
                self.fail("it started")
        self.assertEqual(caught.exception.failed, ["no-such-thing"])

    async def test_removing_a_dependency_has_one_shape(self):
        async with carrel.Session(executor=self.executor()) as session:
            await session.add_dep("six")
            self.assertEqual(await session.remove_dep("six"), {
                "removed": ["six"], "not_found": [], "failed": [], "removed_from_config": True})
            self.assertEqual((await session.remove_dep("six"))["not_found"], ["six"])

    async def test_closing_does_not_need_the_server(self):
        executor = ContainerExecutor(ContainerConfig(remote_url="http://127.0.0.1:9"))
        session = carrel.Session(executor=executor)
        await session.start()
        await session.close()
        await session.close()

    def test_arguments(self):
        with self.assertRaisesRegex(ValueError, "storage"):
            carrel.Session()
        with self.assertRaisesRegex(TypeError, "ContainerExecutor"):
            carrel.Session(storage=carrel.FileStorage("x"), executor="container")


class BlockingTest(unittest.TestCase):
    """The twin, which shares everything with Session."""

    def setUp(self):
        self.fake = self.enterContext(FakeSessionServer())
        self.executor = ContainerExecutor(ContainerConfig(
            remote_url=self.fake.url, auth_token=self.fake.token))

    def test_a_conversation(self):
        with carrel.blocking.Session(executor=self.executor) as session:
            session.run("x = 20")
            self.assertEqual(session.run("x + 22", timeout=5).value, 42)
            self.assertEqual([t["name"] for t in session.list_tools()], ["echo"])
            session.add_skill("s", "def run(): pass", "d")
            self.assertEqual(session.get_workflow("s")["name"], "s")
            with self.assertRaises(carrel.ArtifactNotFoundError):
                session.load_artifact("none")
        self.assertIs(carrel.SyncSession, carrel.blocking.Session)

    def test_within_a_running_event_loop(self):
        async def notebook():
            with carrel.blocking.Session(executor=self.executor) as session:
                return session.run("6 * 7").value
        self.assertEqual(asyncio.run(notebook()), 42)

    def test_from_many_threads(self):
        def conversation(number):
            with carrel.blocking.Session(executor=self.executor) as session:
                session.run(f"x = {number}")
                return session.run("x").value
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.assertEqual(list(pool.map(conversation, range(24))), list(range(24)))

    def test_after_a_fork(self):
        with carrel.blocking.Session(executor=self.executor) as session:
            session.run("1")
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                with carrel.blocking.Session(executor=self.executor) as session:
                    status = 0 if session.run("6 * 7").value == 42 else 2
            finally:
                os._exit(status)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)

    def test_it_has_every_method(self):
        def public(kind):
            return {name for name in dir(kind) if not name.startswith("_")}
        self.assertEqual(public(carrel.blocking.Session), public(carrel.Session))
        for name in public(carrel.Session):
            twin, method = getattr(carrel.blocking.Session, name), getattr(carrel.Session, name)
            self.assertFalse(inspect.iscoroutinefunction(twin), name)
            self.assertEqual(twin.__doc__, method.__doc__, name)
            if callable(method):
                self.assertEqual(inspect.signature(twin), inspect.signature(method), name)


class ConfigTest(unittest.TestCase):
    """ContainerConfig and the storages: what a private server is told."""

    def test_limits(self):
        config = ContainerConfig(memory_limit="64m", cpu_quota=50000, preload=["json"])
        settings = config.settings()
        pool = settings["pools"][0]
        self.assertEqual((pool["memory"], pool["cpu"]), (64 << 20, 0.5))
        self.assertEqual(settings["preload"], ["json"])
        self.assertEqual(ContainerConfig().settings()["pools"][0]["memory"], 512 << 20)
        unlimited = ContainerConfig(memory_limit=None, cpu_quota=None).settings()["pools"][0]
        self.assertFalse({"memory", "cpu"} & set(unlimited))

    def test_sizes(self):
        from carrel.execution import cpu_cores, memory_bytes
        for text, size in (("512m", 512 << 20), ("1G", 1 << 30), ("64MB", 64 << 20),
                           ("65536k", 64 << 20), (33554432, 32 << 20), ("33554432b", 32 << 20)):
            self.assertEqual(memory_bytes(text), size)
        for bad in ("", "lots", "1t", "-1", "15m", "1.5g", 5, True, "512 m b"):
            with self.subTest(bad), self.assertRaises(ValueError):
                memory_bytes(bad)
        self.assertEqual(cpu_cores(150000), 1.5)
        for bad in (0.5, 0, -1, 999, True, "50000"):
            with self.subTest(bad), self.assertRaises(ValueError):
                cpu_cores(bad)

    def test_what_makes_no_sense_is_refused_at_once(self):
        for options in ({"timeout": 0}, {"timeout": -1}, {"timeout": 1e9}, {"auth_token": " "},
                        {"memory_limit": "much"}, {"cpu_quota": 1}, {"deps": "numpy"}):
            with self.subTest(options), self.assertRaises(ValueError):
                ContainerConfig(**options)
        with self.assertRaises(TypeError):
            ContainerConfig(no_such_option=1)

    def test_a_network_is_not_given(self):
        """Seed scripts say False; they run, and are told."""
        with self.assertWarnsRegex(UserWarning, "no way to the network"):
            ContainerConfig(network_disabled=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ContainerConfig(network_disabled=True)
            ContainerConfig(network_disabled=None)

    def test_environment(self):
        config = ContainerConfig(timeout=60, allow_runtime_deps=False, deps=["a", "b"],
                                 environment={"API_KEY": "k"})
        environment = config.server_environment()
        self.assertEqual(environment["ALLOW_RUNTIME_DEPS"], "false")
        self.assertEqual(environment["DEFAULT_TIMEOUT"], "60.0")
        self.assertEqual(environment["API_KEY"], "k")

    def test_files(self):
        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)
            base = pathlib.Path(directory, "made", "here")
            storage = carrel.FileStorage(base)
            self.assertEqual(storage.server_environment(), {
                "TOOLS_PATH": f"{base}/tools", "SKILLS_PATH": f"{base}/skills",
                "ARTIFACTS_PATH": f"{base}/artifacts", "DEPS_PATH": f"{base}/deps"})
            storage.prepare()
            storage.prepare()
            self.assertEqual({path.name for path in base.iterdir()},
                             {"tools", "skills", "artifacts", "deps"})

    @unittest.skipUnless(os.geteuid() == 0, "only root gives files away")
    def test_files_of_root_are_given_to_the_servers_user(self):
        from carrel.storage import server_user
        uid = server_user()[0]
        with tempfile.TemporaryDirectory() as directory:
            base = pathlib.Path(directory)
            with self.assertRaisesRegex(PermissionError, f"{directory} is closed to others"):
                carrel.FileStorage(base / "sub").prepare()
            base.chmod(0o755)
            outside = base / "outside"
            outside.write_text("mine")
            (base / "skills").mkdir()
            (base / "skills" / "s.py").write_text("def run(): pass")
            (base / "skills" / "link").symlink_to(outside)
            os.link(outside, base / "skills" / "second_name")
            (base / "artifacts" / "sub").mkdir(parents=True)
            (base / "artifacts" / "away").symlink_to("/etc")
            etc = os.stat("/etc").st_uid
            carrel.FileStorage(base).prepare()
            for name in ("skills", "skills/s.py", "artifacts", "artifacts/sub", "deps"):
                self.assertEqual((base / name).stat().st_uid, uid, name)
            self.assertEqual((outside.stat().st_uid, base.stat().st_uid), (0, 0))
            self.assertEqual(os.stat("/etc").st_uid, etc)
            # Somebody's own directory is left alone.
            other = base / "other"
            other.mkdir()
            os.chown(other, 12345, 12345)
            carrel.FileStorage(other).prepare()
            self.assertEqual((other / "skills").stat().st_uid, 0)

    def test_redis_by_one_prefix(self):
        storage = carrel.RedisStorage(url="redis://:pw@host:6380/2?ssl=true", prefix="tenant-7")
        self.assertEqual(storage.server_environment(), {
            "REDIS_URL": "redis://:pw@host:6380/2?ssl=true", "REDIS_TOOLS_PREFIX": "tenant-7:tools",
            "REDIS_SKILLS_PREFIX": "tenant-7:skills",
            "REDIS_ARTIFACTS_PREFIX": "tenant-7:artifacts", "REDIS_DEPS_PREFIX": "tenant-7:deps"})
        self.assertNotIn("pw", repr(storage))

    def test_redis_by_its_prefixes(self):
        storage = carrel.RedisStorage(
            redis_url="redis://h", tools_prefix="myapp:tools", skills_prefix="myapp:skills",
            artifacts_prefix="myapp:artifacts")
        environment = storage.server_environment()
        self.assertEqual(environment["REDIS_SKILLS_PREFIX"], "myapp:skills")
        self.assertEqual(environment["REDIS_DEPS_PREFIX"], "myapp:deps")

    def test_redis_without_a_url(self):
        for url in (None, "", "http://h", "localhost:6379"):
            with self.subTest(url), self.assertRaisesRegex(ValueError, "(?i)redis"):
                carrel.RedisStorage(url=url)

    def test_capabilities(self):
        private = ContainerExecutor()
        remote = ContainerExecutor(ContainerConfig(remote_url="http://h"))
        self.assertTrue(private.supports(Capability.NETWORK_ISOLATION))
        self.assertTrue(remote.supports(Capability.RESET))
        self.assertFalse(remote.supports(Capability.MEMORY_LIMIT))


# A `carrel serve` for as long as its stdin lasts; how it behaves is FAKE_MODE.
PROGRAM = """#!/usr/bin/python3
import json, os, sys, signal, time
mode = os.environ.get("FAKE_MODE", "")
def say(**event): print(json.dumps(event), file=sys.stderr, flush=True)
if mode == "refuse":
    print("carrel serve: the level cannot be given", file=sys.stderr); sys.exit(3)
if mode == "hang":
    time.sleep(60)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
arguments = dict(zip(sys.argv[1::1], sys.argv[2::1]))
file = arguments["--config"]
with open(os.environ["FAKE_OUT"], "a") as out:
    json.dump({"pid": os.getpid(), "argv": sys.argv[1:], "environment": dict(os.environ),
               "mode": os.stat(file).st_mode, "config": open(file).read()}, out)
    out.write("\\n")
say(event="listening", level="info", port=12345)
say(event="keeper_ready", level="info")
if mode == "die":
    say(event="server_failed", level="error", reason="the keeper ended"); os._exit(7)
sys.stdin.read()
if mode == "stubborn":
    time.sleep(60)
"""


class PrivateServerTest(unittest.TestCase):
    """The life of a private server, with a program that only pretends to be one."""

    def setUp(self):
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        program = self.directory / "carrel"
        program.write_text(PROGRAM)
        program.chmod(0o755)
        self.out = self.directory / "out"
        self.environment = {"CARREL_BIN": str(program), "SECRET_OF_OURS": "x",
                            "REDIS_URL": "redis://elsewhere", "CARREL_LOG_LEVEL": "error"}
        for name, value in self.environment.items():
            before = os.environ.get(name)
            self.addCleanup(self.restore, name, before)
            os.environ[name] = value

    @staticmethod
    def restore(name, before):
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before

    def spec(self, mode="", **options):
        config = ContainerConfig(environment={"FAKE_OUT": str(self.out), "FAKE_MODE": mode},
                                 **options)
        return ContainerExecutor(config).server_spec(None)

    def started(self):
        return [json.loads(line) for line in self.out.read_text().splitlines()]

    def gone(self, pid):
        end = time.monotonic() + 5
        while os.path.exists(f"/proc/{pid}"):
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def test_how_it_is_started(self):
        lease = _server.acquire(self.spec(memory_limit="64m"))
        self.addCleanup(lease.release)
        told = self.started()[0]
        self.assertEqual(lease.url, "http://127.0.0.1:12345")
        self.assertEqual(stat.S_IMODE(told["mode"]), 0o600)
        self.assertNotIn(lease.token, " ".join(told["argv"]) + told["config"])
        self.assertEqual(json.loads(told["config"])["pools"][0]["memory"], 64 << 20)
        environment = told["environment"]
        self.assertEqual(environment["CONTAINER_AUTH_TOKEN"], lease.token)
        self.assertGreaterEqual(len(lease.token), 64)
        # Nothing of ours that it was not given.
        for name in ("SECRET_OF_OURS", "REDIS_URL", "CARREL_LOG_LEVEL", "CARREL_BIN"):
            self.assertNotIn(name, environment)
        self.assertEqual(told["argv"][:2], ["serve", "--stop-at-eof"])
        self.assertIn("127.0.0.1:0", told["argv"])

    def test_equal_settings_share_one_and_the_last_stops_it(self):
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            leases = list(pool.map(lambda _: _server.acquire(self.spec()), range(6)))
        other = _server.acquire(self.spec(memory_limit="65m"))
        self.assertEqual(len(self.started()), 2)
        self.assertNotEqual(other.token, leases[0].token)
        pid = self.started()[0]["pid"]
        directory = os.path.dirname(self.started()[0]["argv"][3])
        for lease in leases[1:]:
            lease.release()
            lease.release()  # twice counts once
        self.assertIsNone(leases[0].last_words(0))
        leases[0].release()
        self.assertTrue(self.gone(pid))
        self.assertFalse(os.path.exists(directory))
        other.release()

    def test_one_that_ended_is_followed_by_a_new_one(self):
        spec = self.spec()
        first = _server.acquire(spec)
        os.kill(self.started()[0]["pid"], signal.SIGKILL)
        self.assertIn("signal 9", first.last_words(5))
        second = _server.acquire(spec)
        self.assertEqual(len(self.started()), 2)
        self.assertNotEqual(first.token, second.token)
        first.release()
        self.assertIsNone(second.last_words(0))
        second.release()
        self.assertTrue(self.gone(self.started()[1]["pid"]))

    def test_why_it_did_not_start(self):
        with self.assertRaisesRegex(carrel.ServerStartError, "the level cannot be given"):
            _server.acquire(self.spec("refuse"))
        start = time.monotonic()
        with self.assertRaisesRegex(carrel.ServerStartError, "not ready within 0.3 s"):
            _server.acquire(self.spec("hang", startup_timeout=0.3))
        self.assertLess(time.monotonic() - start, 5)
        os.environ["CARREL_BIN"] = str(self.directory / "none")
        with self.assertRaisesRegex(carrel.ServerNotFound, "CARREL_BIN"):
            _server.acquire(self.spec())
        self.assertEqual(_server._registry.all(), [])

    def test_its_last_words(self):
        lease = _server.acquire(self.spec("die"))
        words = lease.last_words(5)
        self.assertIn("status 7", words)
        self.assertIn("the keeper ended", words)
        lease.release()

    def test_one_that_will_not_stop_is_killed(self):
        before, _server.STOP_SECONDS = _server.STOP_SECONDS, 0.3
        self.addCleanup(setattr, _server, "STOP_SECONDS", before)
        lease = _server.acquire(self.spec("stubborn"))
        lease.release()
        self.assertTrue(self.gone(self.started()[0]["pid"]))

    def test_nothing_is_left_when_the_program_ends(self):
        """By itself, by an exception, by SIGKILL, and with a forked child that lives on."""
        code = ("import os, signal, sys\nfrom carrel import _server\n"
                "from carrel.execution import *\n"
                f"config = ContainerConfig(environment={{'FAKE_OUT': {str(self.out)!r}}})\n"
                "lease = _server.acquire(ContainerExecutor(config).server_spec(None))\n")
        ends = ["", "raise SystemExit(3)", "os.kill(os.getpid(), signal.SIGKILL)",
                "pid = os.fork()\nif pid == 0:\n    os.close(0); os.close(1); os.close(2)\n"
                "    import time; time.sleep(20); os._exit(0)\n"
                "open(sys.argv[1], 'w').write(str(pid))\n"
                "os.kill(os.getpid(), signal.SIGKILL)"]
        child = self.directory / "child"
        for number, end in enumerate(ends, 1):
            with self.subTest(end):
                subprocess.run([sys.executable, "-c", code + end, str(child)], timeout=30,
                               stdin=subprocess.DEVNULL, capture_output=True, check=False,
                               env={**os.environ, "PYTHONPATH": str(ROOT / "python")})
                self.assertEqual(len(self.started()), number)
                self.assertTrue(self.gone(self.started()[-1]["pid"]))
        os.kill(int(child.read_text()), signal.SIGKILL)

    def test_the_directory_of_one_that_was_killed_is_taken_away(self):
        """And no other: not of one that lives, of somebody else, or that only has the name."""
        scratch = self.directory / "tmp"
        scratch.mkdir()
        before, tempfile.tempdir = tempfile.tempdir, str(scratch)
        self.addCleanup(setattr, tempfile, "tempdir", before)
        mine = _server.acquire(self.spec())
        kept = set(scratch.iterdir())
        code = ("import os, signal\nfrom carrel import _server\n"
                "_server._Scratch().path.joinpath('data').mkdir()\n"
                "os.kill(os.getpid(), signal.SIGKILL)")
        subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, env={
            **os.environ, "TMPDIR": str(scratch), "PYTHONPATH": str(ROOT / "python")})
        self.assertEqual(len(set(scratch.iterdir()) - kept), 1)
        prefix = scratch / _server._Scratch.PREFIX
        precious = self.directory / "precious"
        precious.mkdir()
        (precious / "lock").touch()
        pathlib.Path(f"{prefix}link").symlink_to(precious)
        pathlib.Path(f"{prefix}file").touch()
        pathlib.Path(f"{prefix}unlocked").mkdir()
        kept |= {pathlib.Path(f"{prefix}{name}") for name in ("link", "file", "unlocked")}
        _server._Scratch().remove()
        self.assertEqual(set(scratch.iterdir()), kept)
        self.assertTrue((precious / "lock").exists())
        mine.release()

    def test_a_forked_child_leaves_the_parents_server_alone(self):
        lease = _server.acquire(self.spec())
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                _server._stop_all()
                status = 0 if _server._registry.all() == [] else 2
            finally:
                os._exit(status)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
        self.assertIsNone(lease.last_words(0))
        lease.release()

    def test_a_cancelled_start_leaves_nothing(self):
        async def cancelled():
            executor = ContainerExecutor(ContainerConfig(
                environment={"FAKE_OUT": str(self.out)}))
            starting = asyncio.create_task(executor.acquire(None))
            await asyncio.sleep(0.01)
            starting.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await starting
            while _server._registry.all():
                await asyncio.sleep(0.01)
        asyncio.run(asyncio.wait_for(cancelled(), 10))
        self.assertTrue(self.gone(self.started()[0]["pid"]))

    def test_an_executor_keeps_its_server_between_sessions(self):
        async def twice(executor):
            for _ in range(2):
                lease = await executor.acquire(None)
                lease.release()
        config = ContainerConfig(environment={"FAKE_OUT": str(self.out)})

        async def held():
            async with ContainerExecutor(config) as executor:
                await twice(executor)
        asyncio.run(held())
        self.assertEqual(len(self.started()), 1)
        self.assertTrue(self.gone(self.started()[0]["pid"]))
        asyncio.run(twice(ContainerExecutor(config)))
        self.assertEqual(len(self.started()), 3)


class WheelTest(unittest.TestCase):
    """What ./dev build makes."""

    def build(self, directory, **environment):
        done = subprocess.run(
            [sys.executable, "-B", str(ROOT / "python/build_wheel.py"), str(directory)], text=True,
            capture_output=True, check=True, env={"PATH": "/usr/bin:/bin", **environment})
        return pathlib.Path(done.stdout.strip())

    def setUp(self):
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_it_can_be_used(self):
        wheel = self.build(self.directory)
        done = subprocess.run(
            [sys.executable, "-I", "-c", "import sys; sys.path.insert(0, sys.argv[1])\n"
             "import carrel; from carrel.execution import ContainerExecutor, ContainerConfig\n"
             "print(carrel.__file__, carrel.Session, carrel.RedisStorage)", str(wheel)],
            capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(".whl/carrel/__init__.py", done.stdout)

    def test_its_record_is_true(self):
        with zipfile.ZipFile(self.build(self.directory)) as archive:
            names = archive.namelist()
            record = next(name for name in names if name.endswith("RECORD"))
            lines = archive.read(record).decode().splitlines()
            listed = dict(line.split(",", 1) for line in lines)
            self.assertEqual(set(listed), set(names))
            for name in set(names) - {record}:
                digest = base64.urlsafe_b64encode(hashlib.sha256(archive.read(name)).digest())
                expected = f"sha256={digest.decode().rstrip('=')},{archive.getinfo(name).file_size}"
                self.assertEqual(listed[name], expected)
            self.assertIn("carrel/py.typed", names)
            metadata = archive.read(record.replace("RECORD", "METADATA")).decode()
        self.assertIn("Requires-Python: >=3.9\n", metadata)
        self.assertNotIn("Requires-Dist", metadata)

    def test_it_is_reproducible(self):
        digests = {hashlib.sha256(self.build(self.directory / name, **extra).read_bytes()).digest()
                   for name, extra in (("a", {}), ("b", {"TZ": "Asia/Tokyo", "HOME": "/"}))}
        self.assertEqual(len(digests), 1)

    def test_its_version_is_the_projects(self):
        project = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text()).group(1)
        self.assertEqual(carrel.__version__, project)

    def test_the_standard_library_is_all_it_needs(self):
        allowed = sys.stdlib_module_names | {"carrel", "typing_extensions"}
        for path in (ROOT / "python/carrel").glob("*.py"):
            tree = ast.parse(path.read_text(), feature_version=(3, 9))
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    names = [node.module]
                else:
                    continue
                self.assertLessEqual({name.split(".")[0] for name in names}, allowed, path.name)


if __name__ == "__main__":
    unittest.main()
