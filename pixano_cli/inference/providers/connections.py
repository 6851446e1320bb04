"""Connections to one server: what goes over the wire, whom to trust, and how much is read.

TLS is verified, the key travels in one header to the host that the user named and to no other,
redirections are not followed, and no more is read than an answer can have.

aiohttp rather than httpx, whose pool goes through all its connections for every request: at 64 at
once that took 5 ms of a processor for each, against 0.2.
"""

from __future__ import annotations

import io
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.request import getproxies, proxy_bypass

import aiohttp
import certifi
from yarl import URL

import pixano_cli
from pixano_cli.inference.errors import (
    InferenceError,
    ProviderConnectionError,
)
from pixano_cli.inference.providers import refusals
from pixano_cli.inference.providers.keys import ApiKey

_REFUSAL_LIMIT = 64 * 1024
_CONNECT_TIMEOUT_S = 10.0
_KEEP_OPEN_S = 30.0
# Larger bodies go out in parts, so that one does not hold up the others.
_WHOLE_BODY = 256 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """What came back.

    Attributes:
        status: The HTTP status.
        headers: The headers, whose names are found in any case.
        body: All of an answer; of a refusal as much as is worth reading.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether it is an answer."""
        return 200 <= self.status < 300


class UnansweredError(Exception):
    """No answer began.

    Attributes:
        error: What is told of it.
        is_lasting: Whether the next try would end in the same way.
    """

    def __init__(self, error: InferenceError, is_lasting: bool) -> None:
        """Hold what went wrong."""
        super().__init__(str(error))
        self.error = error
        self.is_lasting = is_lasting


class Connections:
    """A pool of connections to one server, for the event loop that it is first used in."""

    def __init__(self, url: str, *, key: ApiKey | None, key_header: str, answer_limit: int) -> None:
        """Make it; nothing is connected yet.

        Args:
            url: Address that all paths begin with, as `base_url` gives it.
            key: The key to send, if there is one.
            key_header: Header that carries it: as "Bearer KEY" in Authorization, else alone.
            answer_limit: Most bytes of an answer that are read.
        """
        self._url = url
        self._key = key
        self._key_header = key_header
        self._answer_limit = answer_limit
        self._session: aiohttp.ClientSession | None = None
        self._proxy: str | None = None
        self._has_answered = False

    async def exchange(self, method: str, path: str, content: bytes | None) -> Received:
        """Send one request and return what comes back.

        Raises:
            UnansweredError: If no answer begins.
            ProviderConnectionError: If it breaks off.
            InferenceError: If it is too large, or compressed.
        """
        session = self._session or self._open()
        where = self._url + path
        try:
            response = await session.request(
                method,
                where,
                data=io.BytesIO(content) if content and len(content) > _WHOLE_BODY else content,
                headers={} if content is None else {"Content-Type": "application/json"},
                allow_redirects=False,
                proxy=self._proxy,
            )
        except (aiohttp.ClientError, OSError) as error:
            failure, is_lasting = self._failure(error)
            raise UnansweredError(failure, is_lasting) from _without_request(error)
        self._has_answered = True
        try:
            if 200 <= response.status < 300:
                body = await self._read(where, response)
            else:
                body = await _beginning(response)
        except (aiohttp.ClientError, OSError) as error:
            cut_short = isinstance(error, aiohttp.ClientPayloadError)
            reason = "connection closed" if cut_short else refusals.reason_of(error)
            raise ProviderConnectionError(
                f"{where} broke off in the middle of its answer ({reason}): try again"
            ) from _without_request(error)
        finally:
            # What was read to its end has given its connection back.
            response.close()
        return Received(response.status, response.headers, body)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        headers: dict[str, str] = {
            "Accept": "application/json",
            # What is not compressed cannot grow beyond the limit on this side.
            "Accept-Encoding": "identity",
            "User-Agent": f"pixano-annotate/{pixano_cli.__version__}",
        }
        if self._key is not None:
            is_bearer = self._key_header.lower() == "authorization"
            revealed = self._key.reveal()
            headers[self._key_header] = _Hidden(f"Bearer {revealed}" if is_bearer else revealed)
        url = URL(self._url)
        self._proxy = None if proxy_bypass(url.authority) else getproxies().get(url.scheme)
        self._session = aiohttp.ClientSession(
            headers=headers,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            # The time limit of each request covers all but this, connecting.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
            connector=aiohttp.TCPConnector(
                # How many there are at once is for whoever sends.
                limit=0,
                keepalive_timeout=_KEEP_OPEN_S,
                ssl=_trust() if url.scheme == "https" else True,
            ),
        )
        return self._session

    def _failure(self, error: Exception) -> tuple[InferenceError, bool]:
        """Return what is told of a request without an answer, and whether that lasts."""
        if isinstance(error, aiohttp.ServerDisconnectedError):
            return ProviderConnectionError(
                f"{self._url} closed the connection without an answer: its own log may say why"
            ), False
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return ProviderConnectionError(
                f"{self._url} is not let through by the proxy (status {error.status}): check "
                "HTTPS_PROXY and NO_PROXY"
            ), True
        if isinstance(error, (aiohttp.ClientResponseError, aiohttp.InvalidURL)):
            return ProviderConnectionError(
                f"{self._url} does not speak HTTP as it should: is the URL right, and is it "
                "https:// rather than http://?"
            ), True
        # A name that was known may come to be known again.
        is_wrong = not self._has_answered and refusals.is_unknown_host(error)
        return refusals.unreachable(self._url, error), is_wrong or refusals.is_about_trust(error)

    async def _read(self, where: str, response: aiohttp.ClientResponse) -> bytes:
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise InferenceError(
                f"{where} compresses its answer ({refusals.shown(encoding, self._key)}), "
                "which was not asked for: check what stands between"
            )
        body = bytearray()
        async for part in response.content.iter_any():
            body += part
            if len(body) > self._answer_limit:
                raise InferenceError(
                    f"{where} answers with more than {self._answer_limit:,} bytes, which cannot "
                    "be the answer: check the URL and the model"
                )
        return bytes(body)


class _Hidden(str):
    """A header's value that does not show where headers are printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'[API key]'"


def _trust() -> ssl.SSLContext:
    """Return whom to trust: what SSL_CERT_FILE or SSL_CERT_DIR names, or else all that is known."""
    context = ssl.create_default_context()
    if not os.environ.get("SSL_CERT_FILE") and not os.environ.get("SSL_CERT_DIR"):
        # Some systems, and some Pythons, have no authorities of their own.
        context.load_verify_locations(certifi.where())
    return context


def _without_request(error: Exception) -> BaseException | None:
    """Return the cause to tell of: what aiohttp says of a malformed answer has parts of it."""
    return error if isinstance(error, OSError) else None


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """Return as much of a refusal as is worth reading."""
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) >= _REFUSAL_LIMIT:
            break
    return bytes(body[:_REFUSAL_LIMIT])
