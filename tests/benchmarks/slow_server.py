"""A light server: it takes its time for an answer and refuses more than it allows at once.

`python slow_server.py --speaks openai|pixano-inference --takes 0.1 --allows 64 [--retry-after 1]`
prints the URL it listens at. `/stats` tells what it was asked. It reads no image: what it answers
is the same for all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import dataclass, field
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
    busy: int = 0
    most_at_once: int = 0
    connections: int = 0
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    first: float | None = None

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
        while len(self._received) >= self._wanted and b"\r\n\r\n" in self._received[:16384]:
            head, _, _ = bytes(self._received[:16384]).partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            length = next(
                (int(each[15:]) for each in lines if each.lower().startswith("content-length:")), 0
            )
            self._wanted = len(head) + 4 + length
            if len(self._received) < self._wanted:
                return
            del self._received[: self._wanted]
            self._wanted = 0
            self._ask(lines[0].rpartition(" ")[0])

    def _ask(self, what: str) -> None:
        shop = self._shop
        answer = shop.stats() if what == "GET /stats" else ANSWERS[shop.speaks].get(what)
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
        if shop.takes:
            self._loop.call_later(shop.takes, self._done, answer)
        else:
            self._done(answer)

    def _done(self, answer: Any) -> None:
        self._shop.busy -= 1
        self._shop.answered.append(self._loop.time())
        self._send(200, answer)

    def _send(self, status: int, answer: Any, retry_after: str | None = None) -> None:
        body = json.dumps(answer).encode()
        wait = f"Retry-After: {retry_after}\r\n" if retry_after else ""
        head = (
            f"HTTP/1.1 {status} S\r\nContent-Type: application/json\r\n{wait}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)


async def serve(shop: Shop) -> None:
    """Answer until the end."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(shop), "127.0.0.1", 0, backlog=512)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--speaks", choices=[*ANSWERS], default="openai")
    parser.add_argument("--takes", type=float, default=0.1, help="seconds of an answer")
    parser.add_argument("--allows", type=int, default=64, help="most at once")
    parser.add_argument("--retry-after", help="what to say with a refusal")
    options = parser.parse_args()
    asyncio.run(serve(Shop(options.speaks, options.takes, options.allows, options.retry_after)))


if __name__ == "__main__":
    main()
