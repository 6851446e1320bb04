"""A light server: it takes its time for an answer and refuses more than it allows at once.

`python slow_server.py --speaks openai|pixano-inference --takes 0.1 --allows 64 [--retry-after 1]`
prints the URL it listens at. `/stats` tells what it was asked. It reads no image: what it answers
is the same for all. With `--log FILE` it notes there what is asked and what answered, as a digest
of the request, so that whoever kills it knows what was under way.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

VECTOR = {"data": [{"embedding": [0.25, 0.5, 1.0, 0.125]}], "usage": {"total_tokens": 1}}
FOUND = {
    "id": "1",
    "status": "SUCCESS",
    "timestamp": "2026-01-01T00:00:00Z",
    "processingTime": 0.1,
    "metadata": {},
    "data": {"boxes": [[1, 2, 30, 40]], "scores": [0.9], "classes": ["cat"]},
}
ANSWERS: dict[str, dict[str, Any]] = {
    "openai": {"GET /v1/models": {"data": [{"id": "m"}]}, "POST /v1/embeddings": VECTOR},
    "pixano-inference": {
        "GET /v1/info": {"appName": "slow", "appVersion": "0.7.1"},
        "GET /v1/models": [{"name": "m", "capability": "detection", "status": "RUNNING"}],
        "POST /v1/inference/detection": FOUND,
    },
}


@dataclass
class Shop:
    """What is asked, and how it is answered."""

    speaks: str
    takes: float
    allows: int
    retry_after: str | None
    log: int | None = None
    busy: int = 0
    most_at_once: int = 0
    connections: int = 0
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    first: float | None = None
    answers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Write down all answers once."""
        self.answers = {what: json.dumps(each) for what, each in ANSWERS[self.speaks].items()}

    def note(self, what: str, which: str) -> None:
        """Write a line of the log, at once."""
        if self.log is not None:
            os.write(self.log, f"{what} {which}\n".encode())

    def stats(self) -> dict[str, Any]:
        """Return what happened, in seconds from the first request for work on."""
        first = self.first or 0.0
        return {
            "connections": self.connections,
            "most_at_once": self.most_at_once,
            "answered": [round(moment - first, 4) for moment in self.answered],
            "refused": [round(moment - first, 4) for moment in self.refused],
        }


class Connection(asyncio.Protocol):
    """One client. No framework: its work would be taken from the same processors."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._wanted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._shop.connections += 1

    def data_received(self, data: bytes) -> None:
        """Answer each request that is there with its whole body."""
        self._received += data
        while len(self._received) >= self._wanted:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end]).decode("latin-1")
            at = head.lower().find("\r\ncontent-length:")
            length = 0 if at < 0 else int(head[at + 17 :].partition("\r")[0])
            self._wanted = end + 4 + length
            if len(self._received) < self._wanted:
                return
            body = bytes(self._received[end + 4 : self._wanted])
            del self._received[: self._wanted]
            self._wanted = 0
            self._ask(head.partition(" HTTP/")[0], body)

    def _ask(self, what: str, body: bytes) -> None:
        shop = self._shop
        answer = shop.stats() if what == "GET /stats" else shop.answers.get(what)
        if answer is None or what.startswith("GET"):
            self._send(404 if answer is None else 200, answer)
            return
        shop.first = shop.first or self._loop.time()
        if shop.busy >= shop.allows:
            shop.refused.append(self._loop.time())
            self._send(429, None, shop.retry_after)
            return
        shop.busy += 1
        shop.most_at_once = max(shop.most_at_once, shop.busy)
        which = "" if shop.log is None else hashlib.sha256(body).hexdigest()
        shop.note("asked", which)
        if shop.takes:
            self._loop.call_later(shop.takes, self._done, answer, which)
        else:
            self._done(answer, which)

    def _done(self, answer: Any, which: str) -> None:
        self._shop.busy -= 1
        self._shop.note("answered", which)
        self._shop.answered.append(self._loop.time())
        self._send(200, answer)

    def _send(self, status: int, answer: Any, retry_after: str | None = None) -> None:
        body = answer if isinstance(answer, str) else json.dumps(answer)
        self._transport.write(_message(status, body, retry_after))


@lru_cache(16)
def _message(status: int, body: str, retry_after: str | None) -> bytes:
    wait = f"Retry-After: {retry_after}\r\n" if retry_after else ""
    kind = "Content-Type: application/json"
    head = f"HTTP/1.1 {status} S\r\n{kind}\r\n{wait}Content-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


async def serve(shop: Shop, port: int) -> None:
    """Answer until the end."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(shop), "127.0.0.1", port, backlog=512)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--speaks", choices=[*ANSWERS], default="openai")
    parser.add_argument("--takes", type=float, default=0.1, help="seconds of an answer")
    parser.add_argument("--allows", type=int, default=64, help="most at once")
    parser.add_argument("--retry-after", help="what to say with a refusal")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", metavar="FILE", help="where to note what is asked and answered")
    options = parser.parse_args()
    log = None
    if options.log:
        log = os.open(options.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    shop = Shop(options.speaks, options.takes, options.allows, options.retry_after, log)
    asyncio.run(serve(shop, options.port))


if __name__ == "__main__":
    main()
