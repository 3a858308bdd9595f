"""A WebSocket client (RFC 6455), as much of one as talking to a Jupyter Server takes."""

import base64
import os
import socket
import struct

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MESSAGE_MAX_BYTES = 64 << 20


class WebSocketError(Exception):
    pass


class WebSocket:
    """One connection over plain TCP to this host. Use it as a context manager."""

    def __init__(self, port, path, headers=None, timeout=60):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket",
                 "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                 "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode()]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        status = self.stream.readline().decode()
        while self.stream.readline() not in (b"\r\n", b""):
            pass
        if " 101 " not in status:
            self.close()
            raise WebSocketError(f"the server does not upgrade: {status.strip()}")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()

    def close(self):
        self.stream.close()
        self.socket.close()

    def send(self, text):
        self._send_frame(TEXT, text.encode())

    def _send_frame(self, kind, payload):
        """Whole and masked, as a client's must be."""
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | kind, 0x80 | size)
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | kind, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | kind, 0x80 | 127, size)
        mask = os.urandom(4)
        whole = (mask * (size // 4 + 1))[:size]
        masked = int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")
        self.socket.sendall(head + mask + masked.to_bytes(size, "big"))

    def receive(self):
        """The next message's payload."""
        message = b""
        while True:
            last, kind, payload = self._receive_frame()
            if kind == PING:
                self._send_frame(PONG, payload)
            elif kind == CLOSE:
                raise WebSocketError("the server closed the connection")
            elif kind != PONG:
                message += payload
                if len(message) > MESSAGE_MAX_BYTES:
                    raise WebSocketError("a message without an end")
                if last:
                    return message

    def _receive_frame(self):
        # A server that leaves Nagle's algorithm on waits for our acknowledgement between its small
        # frames; ours shall come at once, or the kernel's 40 ms of delay are measured instead.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        first, second = self._read(2)
        size = second & 0x7F
        if size == 126:
            size, = struct.unpack("!H", self._read(2))
        elif size == 127:
            size, = struct.unpack("!Q", self._read(8))
        if size > MESSAGE_MAX_BYTES:
            raise WebSocketError("a frame that is too large")
        return bool(first & 0x80), first & 0x0F, self._read(size)

    def _read(self, count):
        data = self.stream.read(count)
        if len(data) != count:
            raise WebSocketError("the connection ended")
        return data
