"""HTTP/1.1 over asyncio streams: as much of it as a client of one server needs.

Connections are kept and used again, at most ``connections_max`` at once; more requests wait. Every
request has one deadline, from the wait for a connection to the last byte of the answer. A request
that is cancelled or late closes its connection, which is how the server learns that nobody waits
any more. Nothing that could have run is sent a second time.

An answer's head is at most 64 KiB, its body at most ``body_bytes_max``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import time
import urllib.parse
from typing import Any, Mapping

from .errors import CarrelError, ConnectionFailed, ProtocolError, RequestTimeout

CONNECTIONS_MAX = 16
HEAD_BYTES_MAX = 65536
HEADERS_MAX = 200
BODY_BYTES_MAX = 256 << 20
INTERIM_MAX = 8
# A body that is sent in one piece with the head.
JOINED_BYTES_MAX = 65536
# Well below the time after which the server closes an idle connection (75 s): a request must not
# meet a connection that is just being closed.
IDLE_SECONDS_MAX = 30.0
REPEATABLE = frozenset({"GET", "HEAD"})

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?\r\n")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")


class Response:
    """One answer: status, headers with lower-case names, and the body's bytes."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case; "" when there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> Any:
        """The body as JSON. ProtocolError when it is not."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise ProtocolError(f"the server's answer is not JSON: {error}") from None


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.idle_since = 0.0
        self.answered = False  # a byte of the current answer has come
        self.keep = False

    def usable(self) -> bool:
        return not (self.reader.at_eof() or self.writer.is_closing()
                    or time.monotonic() - self.idle_since > IDLE_SECONDS_MAX)

    def abort(self) -> None:
        # RuntimeError: its event loop is closed already.
        with contextlib.suppress(RuntimeError):
            self.writer.transport.abort()

    async def exchange(self, head: bytes, body: bytes, bodiless: bool, body_max: int) -> Response:
        self.answered = False
        self.keep = False
        # Nothing is gained by waiting until a body is sent that is in memory anyway; and a server
        # that refuses it answers, and may close, before it has read all of it.
        if len(body) <= JOINED_BYTES_MAX:
            self.writer.write(head + body)
        else:
            self.writer.write(head)
            self.writer.write(body)
        response = await self._answer(bodiless, body_max)
        if self.writer.transport.get_write_buffer_size() > 0:
            self.keep = False
        return response

    async def _answer(self, bodiless: bool, body_max: int) -> Response:
        for _ in range(INTERIM_MAX):
            status, version_keeps, headers = await self._head()
            if status >= 200:
                break
        else:
            raise ProtocolError("more interim answers than any server sends")
        said = headers.get("connection", "").lower()
        self.keep = version_keeps and "close" not in said
        if bodiless or status in (204, 304):
            return Response(status, headers, b"")
        return Response(status, headers, await self._body(headers, body_max))

    async def _head(self) -> tuple[int, bool, dict[str, str]]:
        line = await self.reader.readuntil(b"\r\n")
        self.answered = True
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise ProtocolError(f"this is not HTTP: {line[:80]!r}")
        headers: dict[str, str] = {}
        size = len(line)
        for _ in range(HEADERS_MAX):
            line = await self.reader.readuntil(b"\r\n")
            size += len(line)
            if size > HEAD_BYTES_MAX:
                break
            if line == b"\r\n":
                return int(match.group(1)), match.group(0).startswith(b"HTTP/1.1"), headers
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not _TOKEN.fullmatch(name):
                raise ProtocolError(f"an ill-formed header: {line[:80]!r}")
            headers[name.lower()] = value.strip()
        raise ProtocolError("the answer's head is too large")

    async def _body(self, headers: dict[str, str], body_max: int) -> bytes:
        coding = headers.get("transfer-encoding", "").lower()
        if coding == "chunked":
            return await self._chunks(body_max)
        if coding:
            raise ProtocolError(f"a transfer encoding nobody asked for: {coding!r}")
        length = headers.get("content-length")
        if length is None:
            self.keep = False
            return await self._rest(body_max)
        if not (length.isascii() and length.isdigit()) or len(length) > 15:
            raise ProtocolError(f"an ill-formed length: {length!r}")
        _check_size(int(length), body_max)
        return await self.reader.readexactly(int(length))

    async def _rest(self, body_max: int) -> bytes:
        parts = bytearray()
        while piece := await self.reader.read(65536):
            parts += piece
            _check_size(len(parts), body_max)
        return bytes(parts)

    async def _chunks(self, body_max: int) -> bytes:
        parts = bytearray()
        while True:
            line = await self.reader.readuntil(b"\r\n")
            match = _CHUNK_SIZE.fullmatch(line)
            if match is None:
                raise ProtocolError(f"an ill-formed chunk: {line[:80]!r}")
            size = int(match.group(1), 16)
            if size == 0:
                break
            _check_size(len(parts) + size, body_max)
            parts += await self.reader.readexactly(size)
            if await self.reader.readexactly(2) != b"\r\n":
                raise ProtocolError("a chunk without its end")
        for _ in range(HEADERS_MAX):
            if await self.reader.readuntil(b"\r\n") == b"\r\n":
                return bytes(parts)
        raise ProtocolError("the answer's trailer is too large")


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise ProtocolError(f"an answer of more than {most} bytes")


class HttpClient:
    """Requests to one server.

    base_url: ``http://`` or ``https://``, host, port and perhaps a path before every route's.
    ssl_context: for https, instead of the system's certificates. ValueError when the URL is none.

    It may be used from one event loop after the other, not from two at once.
    """

    def __init__(self, base_url: str, ssl_context: ssl.SSLContext | None = None,
                 connections_max: int = CONNECTIONS_MAX,
                 body_bytes_max: int = BODY_BYTES_MAX) -> None:
        parts = urllib.parse.urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http or https URL: {base_url!r}")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("a server's URL has no user, query or fragment; a token is given apart")
        self.base_url = base_url.rstrip("/")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = urllib.parse.quote(urllib.parse.unquote(parts.path.rstrip("/")))
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self._tls = ssl_context or ssl.create_default_context()
        self._connections_max = connections_max
        self._body_bytes_max = body_bytes_max
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots: asyncio.Semaphore | None = None

    async def request(self, method: str, path: str, *, timeout: float,
                      query: Mapping[str, Any] | None = None,
                      headers: Mapping[str, str] | None = None,
                      body: bytes | None = None) -> Response:
        """One request. timeout: seconds, for all of it.

        Raises ConnectionFailed, RequestTimeout or ProtocolError; ValueError for a header that
        cannot be sent.
        """
        target = self._prefix + path
        if query:
            target += "?" + urllib.parse.urlencode(query)
        head = self._request_head(method, target, headers or {}, body)
        what = f"{method} {path}"
        try:
            return await asyncio.wait_for(self._exchange(method, head, body or b""), timeout)
        except asyncio.TimeoutError:
            raise RequestTimeout(f"{what}: no answer within {timeout:g} s") from None
        except CarrelError:
            raise
        except asyncio.LimitOverrunError as error:
            raise ProtocolError(f"{what}: the answer's head is too large: {error}") from None
        except (OSError, EOFError) as error:
            raise ConnectionFailed(f"{what}: {self._reason(error)}") from error

    async def close(self) -> None:
        """Closes every connection. The client can be used again."""
        for connection in list(self._open):
            connection.abort()
        self._open.clear()
        self._idle.clear()

    # --- one request ---

    def _reason(self, error: BaseException) -> str:
        where = f"{self._host}:{self._port}"
        if isinstance(error, EOFError):
            return f"{where} closed the connection before it had answered"
        return f"{where}: {error}"

    def _request_head(self, method: str, target: str, headers: Mapping[str, str],
                      body: bytes | None) -> bytes:
        host = f"[{self._host}]" if ":" in self._host else self._host
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}:{self._port}"]
        if body is not None or method in ("POST", "PUT"):
            lines.append(f"Content-Length: {len(body or b'')}")
        for name, value in headers.items():
            if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError(f"a header {name!r} with characters that cannot be sent")
            lines.append(f"{name}: {value}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")

    async def _exchange(self, method: str, head: bytes, body: bytes) -> Response:
        async with self._slots_here():
            connection, fresh = await self._take()
            try:
                return await self._on(connection, method, head, body)
            except (ConnectionError, EOFError):
                if fresh or connection.answered or method not in REPEATABLE:
                    raise
            # The server had closed the idle connection.
            return await self._on(await self._connect(), method, head, body)

    async def _on(self, connection: _Connection, method: str, head: bytes,
                  body: bytes) -> Response:
        try:
            response = await connection.exchange(head, body, method == "HEAD",
                                                 self._body_bytes_max)
        except BaseException:
            self._drop(connection)
            raise
        if connection.keep:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            self._drop(connection)
        return response

    # --- connections ---

    def _slots_here(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if self._slots is None or self._loop is not loop:
            for connection in self._open:
                connection.abort()
            self._open.clear()
            self._idle.clear()
            self._loop = loop
            self._slots = asyncio.Semaphore(self._connections_max)
        return self._slots

    async def _take(self) -> tuple[_Connection, bool]:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable():
                return connection, False
            self._drop(connection)
        return await self._connect(), True

    async def _connect(self) -> _Connection:
        reader, writer = await asyncio.open_connection(
            self._host, self._port, ssl=self._tls, limit=HEAD_BYTES_MAX)
        connection = _Connection(reader, writer)
        self._open.add(connection)
        return connection

    def _drop(self, connection: _Connection) -> None:
        self._open.discard(connection)
        connection.abort()
