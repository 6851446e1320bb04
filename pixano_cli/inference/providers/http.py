"""A server that is asked over HTTP: what goes out, what may come back, and how long it may take.

Everything that every remote provider owes its user is here: TLS is verified, the key travels in
one header to the host that the user named and to no other, answers are bounded in size and time,
and what fails for a moment is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Generator
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import httpx
import orjson

import pixano_cli
from pixano_cli.errors import UsageError
from pixano_cli.inference.errors import (
    InferenceError,
    InferenceTimeoutError,
    ProviderConnectionError,
)
from pixano_cli.inference.providers import refusals
from pixano_cli.inference.providers.keys import ApiKey
from pixano_cli.inference.providers.retries import Patience, TryAgainError, retry_after

ANSWER_LIMIT = 8 * 1024 * 1024
"""Most bytes of an answer that are read, unless a provider says otherwise."""

_REFUSAL_LIMIT = 64 * 1024
_CONNECT_TIMEOUT_S = 10.0
_KEEP_OPEN_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        where: Address of what was asked, for errors.
        status: The HTTP status.
        value: The JSON of an answer; None where the status says that it is none.
        said: What the server says where it is none, in one line; else empty.
        seconds: Time from sending to the last byte, of the try that was answered.
    """

    where: str
    status: int
    value: Any
    said: str
    seconds: float

    @property
    def is_success(self) -> bool:
        """Whether it is an answer."""
        return 200 <= self.status < 300


class HttpServer:
    """One server and one pool of connections to it, for one event loop."""

    def __init__(
        self,
        url: str,
        *,
        key: ApiKey | None,
        variable: str,
        concurrency: int,
        answer_limit: int = ANSWER_LIMIT,
        tries: int = 5,
        pace: float = 0.5,
    ) -> None:
        """Make it; nothing is sent yet.

        Args:
            url: Address that all paths begin with, as `base_url` gives it.
            key: The key to send, if there is one.
            variable: Environment variable that a key is looked for in, for errors.
            concurrency: Most requests under way at once; others wait, and their time does not run.
            answer_limit: Most bytes of an answer that are read.
            tries: How often a request is sent at most.
            pace: Longest first wait between two tries, in seconds; see `Patience`.
        """
        self.url = url
        self._key = key
        self._variable = variable
        self._answer_limit = answer_limit
        self._tries = tries
        self._pace = pace
        self._slots = asyncio.Semaphore(concurrency)
        self._client = httpx.AsyncClient(
            auth=_Bearer(key) if key else None,
            headers={
                "Accept": "application/json",
                # What is not compressed cannot grow beyond the limit on this side.
                "Accept-Encoding": "identity",
                "User-Agent": f"pixano-annotate/{pixano_cli.__version__}",
            },
            follow_redirects=False,
            # The time limit of each request covers all but this, connecting.
            timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S),
            limits=httpx.Limits(
                max_connections=concurrency,
                max_keepalive_connections=concurrency,
                keepalive_expiry=_KEEP_OPEN_S,
            ),
        )

    async def get(self, path: str, *, timeout: float, heed: Collection[int] = ()) -> Answer:
        """Ask with GET; see `post`."""
        return await self._ask("GET", path, None, timeout, heed)

    async def post(
        self, path: str, body: Any, *, timeout: float, heed: Collection[int] = ()
    ) -> Answer:
        """Ask with POST, as often as is useful within the time limit.

        Args:
            path: What is asked, from the server's URL on.
            body: What is sent, as JSON.
            timeout: Seconds for all tries together, without the waits that the server asks for.
            heed: Statuses that the caller understands: returned, not raised. Those that ask for
                patience are not among them.

        Raises:
            ProviderConnectionError: If the server cannot be reached, cannot be trusted, sends on
                to another address, or breaks off in the middle of its answer.
            InferenceTimeoutError: If the whole answer is not there in time.
            InvalidRequestError: If the request, or its key, is refused.
            InferenceError: If the server stays too busy, fails, or answers with too much or with
                something that is not JSON.
        """
        return await self._ask("POST", path, orjson.dumps(body), timeout, heed)

    async def delete(self, path: str, *, timeout: float, heed: Collection[int] = ()) -> Answer:
        """Ask with DELETE; see `post`."""
        return await self._ask("DELETE", path, None, timeout, heed)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(
        self, method: str, path: str, content: bytes | None, timeout: float, heed: Collection[int]
    ) -> Answer:
        request = partial(self._send, method, path, content, heed)
        async with self._slots:
            try:
                async with asyncio.timeout(timeout) as clock:
                    patience = Patience(tries=self._tries, pace=self._pace, clock=clock)
                    return await patience.send(request)
            except TimeoutError as error:
                raise InferenceTimeoutError(
                    f"{self.url}{path} did not answer in {timeout:g} s: "
                    "allow more time, or lower the concurrency"
                ) from error

    async def _send(
        self, method: str, path: str, content: bytes | None, heed: Collection[int]
    ) -> Answer:
        where = self.url + path
        start = perf_counter()
        request = self._client.build_request(
            method,
            where,
            content=content,
            headers={} if content is None else {"Content-Type": "application/json"},
        )
        try:
            response = await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            failure = refusals.unreachable(self.url, error)
            if refusals.is_about_trust(error) or isinstance(error, httpx.UnsupportedProtocol):
                raise failure from error
            raise TryAgainError(failure) from error
        try:
            if response.is_success:
                body = await self._read(where, response)
                value = _parsed(where, response, body)
                return Answer(where, response.status_code, value, "", perf_counter() - start)
            said = refusals.saying(await _beginning(response), self._key)
        except httpx.TransportError as error:
            raise ProviderConnectionError(
                f"{where} broke off in the middle of its answer "
                f"({refusals.reason_of(error)}): try again"
            ) from error
        finally:
            await response.aclose()
        status = response.status_code
        if status in heed:
            return Answer(where, status, None, said, perf_counter() - start)
        if response.has_redirect_location:
            raise refusals.redirection(where, self._target(response, path))
        sent = len(content or b"")
        refusal = refusals.refusal(
            where, status, said, key=self._key, variable=self._variable, sent=sent
        )
        if status in refusals.BUSY:
            raise TryAgainError(refusal, retry_after(response.headers.get("Retry-After")))
        raise refusal

    async def _read(self, where: str, response: httpx.Response) -> bytes:
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise InferenceError(
                f"{where} compresses its answer ({refusals.shown(encoding, self._key)}), "
                "which was not asked for: check what stands between"
            )
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            if len(body) > self._answer_limit:
                raise InferenceError(
                    f"{where} answers with more than {self._answer_limit:,} bytes, which cannot "
                    "be the answer: check the URL and the model"
                )
        return bytes(body)

    def _target(self, response: httpx.Response, path: str) -> str:
        """Return where a redirection leads, as the URL that a user would have to give."""
        try:
            target = response.request.url.join(response.headers["Location"])
        except httpx.InvalidURL:
            return "an address that is none"
        plain = str(target.copy_with(username=None, password=None, query=None, fragment=None))
        return refusals.shown(plain.removesuffix(path), self._key)


class _Bearer(httpx.Auth):
    """Puts the key into one header of each request, and nowhere else."""

    def __init__(self, key: ApiKey) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._key.reveal()}"
        yield request


def base_url(url: str, default_path: str = "") -> str:
    """Return the URL of a server, checked, without a slash at its end.

    Args:
        url: What the user gives.
        default_path: Path of a URL that has none.

    Raises:
        UsageError: If it is no http or https URL of a host, or has a user, a password, a query
            or a fragment, which would be recorded and shown.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise UsageError("the server's URL is none: http://HOST:PORT is wanted") from None
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise UsageError(
            f"the URL of {parsed.host} has more than a host and a path: leave out user, password, "
            "query and fragment, and give a key by environment variable or file"
        )
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UsageError("the server's URL is not whole: http://HOST:PORT is wanted")
    given = str(parsed).rstrip("/")
    return given + default_path if parsed.path == "/" else given


def _parsed(where: str, response: httpx.Response, body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind.endswith("html"):
            raise InferenceError(
                f"{where} answers with a web page, not with JSON: check the URL"
            ) from error
        raise InferenceError(
            f"{where} answers with what is not JSON, or only the beginning of it: try again, "
            "and check the URL"
        ) from error


async def _beginning(response: httpx.Response) -> bytes:
    """Return as much of a refusal as is worth reading."""
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) >= _REFUSAL_LIMIT:
            break
    return bytes(body[:_REFUSAL_LIMIT])
