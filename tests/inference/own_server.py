"""A server of the tests' own: it answers as it is told, also as no good server would."""

from __future__ import annotations

import json
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


Reply = Callable[["Handler"], None]


@dataclass
class OwnServer:
    """What a running server is to answer, and what it was asked.

    `replies` are by path; of several the last is given again and again. A path without any is not
    there.
    """

    url: str
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    most_at_once: int = 0
    closing: threading.Event = field(default_factory=threading.Event)
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def on(self, path: str, *replies: Reply) -> None:
        """Tell what to answer."""
        self.replies[path] = list(replies)

    def take(self, path: str) -> Reply:
        """Return what to answer now."""
        with self.lock:
            replies = self.replies.get(path, [NOT_THERE])
            return replies.pop(0) if len(replies) > 1 else replies[0]

    def paths(self) -> list[str]:
        """Return what was asked, in order."""
        return [asked.path for asked in self.asked]


class Handler(BaseHTTPRequestHandler):
    """Notes the request and gives the next reply."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    own: OwnServer
    body: Any = None

    def setup(self) -> None:
        """Count the connection."""
        with self.own.lock:
            self.own.connections += 1
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer(None)

    def do_DELETE(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: Any) -> None:
        own = self.own
        self.body = body
        with own.lock:
            own.asked.append(Asked(self.command, self.path, dict(self.headers), body))
            own.at_once += 1
            own.most_at_once = max(own.most_at_once, own.at_once)
        try:
            own.take(self.path)(self)
        finally:
            with own.lock:
                own.at_once -= 1

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head of an answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def drop(self) -> None:
        """Reset the connection."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        os.close(self.connection.detach())


def text(
    body: str | bytes,
    status: int = 200,
    kind: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Answer with a text as it is."""
    data = body.encode() if isinstance(body, str) else body

    def reply(handler: Handler) -> None:
        length = {"Content-Type": kind, "Content-Length": str(len(data))}
        handler.begin(status, length | dict(headers or {}))
        handler.wfile.write(data)

    return reply


def answer(value: Any, status: int = 200, **headers: str) -> Reply:
    """Answer with JSON; `Retry_After` is the header Retry-After."""
    named = {name.replace("_", "-"): each for name, each in headers.items()}
    return text(json.dumps(value), status, headers=named)


NOT_THERE = answer({"detail": "Not Found"}, 404)


def reset(handler: Handler) -> None:
    """Reset the connection without an answer."""
    handler.drop()


def garbage(handler: Handler) -> None:
    """Answer in another protocol."""
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    handler.close_connection = True


def break_off(handler: Handler) -> None:
    """Reset the connection in the middle of an answer."""
    handler.begin(200, {"Content-Type": "application/json", "Content-Length": "1000"})
    handler.wfile.write(b'{"data": [')
    handler.wfile.flush()
    handler.drop()


def end_early(handler: Handler) -> None:
    """Close the connection in the middle of an answer."""
    handler.begin(200, {"Content-Type": "application/json", "Content-Length": "1000"})
    handler.wfile.write(b'{"data": [')
    handler.close_connection = True


def stall(handler: Handler) -> None:
    """Never end an answer."""
    handler.begin(200, {"Content-Type": "application/json", "Content-Length": "1000"})
    handler.wfile.write(b'{"data": [')
    handler.wfile.flush()
    handler.own.closing.wait(30)
    handler.close_connection = True


def endless_refusal(handler: Handler) -> None:
    """Refuse at a length that has no end."""
    handler.begin(400, {"Content-Type": "text/plain", "Content-Length": "1000000000"})
    handler.wfile.write(b"no " * 30_000)
    handler.wfile.flush()
    handler.own.closing.wait(30)
    handler.close_connection = True


def silence(handler: Handler) -> None:
    """Never begin an answer."""
    handler.own.closing.wait(30)
    handler.close_connection = True


def flood(handler: Handler) -> None:
    """Answer with 10 MB of whose length nothing is said before."""
    handler.begin(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
    part = b'"' + b"x" * 99_997 + b'",'
    try:
        for _ in range(100):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        handler.wfile.write(b"0\r\n\r\n")
    except OSError:
        handler.close_connection = True


def after(seconds: float, reply: Reply) -> Reply:
    """Wait before answering."""

    def late(handler: Handler) -> None:
        handler.own.closing.wait(seconds)
        reply(handler)

    return late


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    # As many connections as a client makes at once, or those that are left over wait for seconds.
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that leave are wanted here."""


@contextmanager
def own_server(certificate: str | None = None, port: int = 0) -> Iterator[OwnServer]:
    """Run a server until the block ends; with a certificate and key (PEM) it speaks TLS."""

    class OwnHandler(Handler):
        pass

    with _Quiet(("127.0.0.1", port), OwnHandler) as server:
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake is for the thread of each connection: here it would hold up the others.
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
            scheme = "https"
        own = OwnServer(f"{scheme}://127.0.0.1:{server.server_address[1]}")
        OwnHandler.own = own
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield own
        finally:
            own.closing.set()
            server.shutdown()
            thread.join()
