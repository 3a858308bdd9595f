#!/usr/bin/python3
"""The Python package's HTTP client against a server that answers what the test says, and what a
session object asks of its client."""

import asyncio
import contextlib
import pathlib
import sys
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "python"))

from carrel import _http, execution, session  # noqa: E402
from carrel.errors import CarrelError, ProtocolError  # noqa: E402

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class HttpTest(unittest.IsolatedAsyncioTestCase):
    @contextlib.asynccontextmanager
    async def server(self, *answers, **options):
        """A client of a server that gives ANSWERS in turn; self.connections counts who came."""
        self.connections = 0
        left = list(answers)

        async def serve(reader, writer):
            self.connections += 1
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while left:
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(left.pop(0))
                await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = _http.HttpClient(f"http://127.0.0.1:{port}", **options)
        try:
            yield client
        finally:
            await client.close()
            server.close()
            await server.wait_closed()

    async def get(self, client):
        return await client.request("GET", "/", timeout=30)

    async def test_a_connection_is_used_again(self):
        async with self.server(OK, OK) as client:
            for _ in range(2):
                self.assertEqual((await self.get(client)).body, b"ok")
        self.assertEqual(self.connections, 1)

    async def test_a_connection_that_the_server_closes_is_not(self):
        closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: Close\r\n\r\n")
        async with self.server(closing, OK) as client:
            await self.get(client)
            await self.get(client)
        self.assertEqual(self.connections, 2)

    async def test_a_connection_that_was_idle_too_long_is_not(self):
        async with self.server(OK, OK, OK) as client:
            await self.get(client)
            with mock.patch.object(_http, "IDLE_SECONDS_MAX", -1):
                await self.get(client)
            await self.get(client)
        self.assertEqual(self.connections, 2)

    async def test_bodies_have_a_bound(self):
        def chunks(*sizes):
            body = b"".join(b"%x\r\n%s\r\n" % (size, b"x" * size) for size in sizes)
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"

        for good, bad in ((b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + 10 * b"x",
                           b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + 11 * b"x"),
                          (chunks(5, 5), chunks(5, 6))):
            async with self.server(good, bad, body_bytes_max=10) as client:
                self.assertEqual((await self.get(client)).body, 10 * b"x")
                with self.assertRaises(ProtocolError):
                    await self.get(client)

    async def test_a_chunk_has_an_end(self):
        bad = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok--0\r\n\r\n"
        async with self.server(bad) as client:
            with self.assertRaises(ProtocolError):
                await self.get(client)

    def test_urls(self):
        for bad in ("ftp://host", "http://", "http://user@host", "http://user:secret@host",
                    "http://host/?q", "http://host/#f", "host"):
            with self.subTest(bad), self.assertRaises(ValueError):
                _http.HttpClient(bad)


class SessionTest(unittest.IsolatedAsyncioTestCase):
    """Over a client that notes what it was asked."""

    def session(self, **options):
        config = execution.ContainerConfig(remote_url="http://127.0.0.1:1")
        made = session.Session(executor=execution.ContainerExecutor(config), **options)
        made._client = mock.AsyncMock()
        return made, made._client

    async def test_reset_keeps_the_workspace(self):
        made, client = self.session(workspace_id="desk")
        await made.reset()
        self.assertEqual(client.mock_calls, [mock.call.reset(), mock.call.init_session("desk")])

    async def test_reset_without_a_workspace(self):
        made, client = self.session()
        await made.reset()
        self.assertEqual(client.mock_calls, [mock.call.reset()])

    async def test_its_own_session_ends_with_it(self):
        made, client = self.session()
        client.reset.side_effect = CarrelError("the server is gone")
        await made.close()
        self.assertEqual(client.mock_calls, [mock.call.reset(), mock.call.close()])

    async def test_one_that_was_there_before_does_not(self):
        made, client = self.session(session_id="kept-1234")
        await made.close()
        self.assertEqual(client.mock_calls, [mock.call.close()])


if __name__ == "__main__":
    unittest.main()
