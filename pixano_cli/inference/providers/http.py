"""A server that is asked over HTTP: whose turn it is, what is tried again, how long it may take.

Everything that every remote provider owes its user is here or in what this puts together:
`connections` sends, `turns` lets no more through than the server bears and the user allows,
`breaker` waits for a server that is away, `retries` tries again what failed for a moment, and
`refusals` says what the rest means.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import orjson
from yarl import URL

from pixano_cli.errors import UsageError
from pixano_cli.inference.errors import (
    InferenceError,
    InferenceTimeoutError,
    NotSentError,
    ProviderConnectionError,
)
from pixano_cli.inference.providers import refusals, retries
from pixano_cli.inference.providers.breaker import PATIENCE_S, Breaker
from pixano_cli.inference.providers.connections import Connections, Received, UnansweredError
from pixano_cli.inference.providers.keys import ApiKey
from pixano_cli.inference.providers.pacing import MOST, START, Pacing
from pixano_cli.inference.providers.rates import Rate
from pixano_cli.inference.providers.retries import Patience, TryAgainError, retry_after
from pixano_cli.inference.providers.turns import Turns

logger = logging.getLogger(__name__)

ANSWER_LIMIT = 8 * 1024 * 1024
"""Most bytes of an answer that are read, unless a provider says otherwise."""

_LOOK_TIMEOUT_S = 10.0
_REDIRECTIONS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        where: Address of what was asked, for errors.
        status: The HTTP status.
        value: The JSON of an answer; None where there is none, or the status says so.
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


@dataclass(slots=True)
class _Verdict:
    """What a try showed of the server.

    Attributes:
        kept_up: Whether it answered rather than being too busy; None if unknown.
        pause: Seconds for which it wants no request.
    """

    kept_up: bool | None = None
    pause: float = 0.0


class HttpServer:
    """One server and one pool of connections to it, for one event loop."""

    def __init__(
        self,
        url: str,
        *,
        key: ApiKey | None,
        variable: str,
        key_header: str = "Authorization",
        concurrency: int | None = None,
        rpm: float | None = None,
        tpm: float | None = None,
        health: str = "/health",
        answer_limit: int = ANSWER_LIMIT,
        tries: int = 5,
        pace: float = 0.5,
        patience: float = PATIENCE_S,
    ) -> None:
        """Make it; nothing is sent yet.

        Args:
            url: Address that all paths begin with, as `base_url` gives it.
            key: The key to send, if there is one.
            variable: Environment variable that a key is looked for in, for errors.
            key_header: Header that carries it: as "Bearer KEY" in Authorization, else alone.
            concurrency: Most requests under way at once, and how many to begin with; by default
                from 16 up to 64. Fewer where the server is too busy for so many. Others wait, and
                their time does not run.
            rpm: Most requests in any minute; what asks about the server itself does not count.
            tpm: Most tokens in any minute.
            health: Path that is asked while the server is away; that it is not there is an
                answer, too.
            answer_limit: Most bytes of an answer that are read.
            tries: How often a request is sent at most.
            pace: Longest first wait between two tries, in seconds; see `Patience`.
            patience: Seconds that the server may be away before it is given up.
        """
        self.url = url
        self._key = key
        self._variable = variable
        self._health = health
        self._tries = tries
        self._pace = pace
        self._connections = Connections(
            url, key=key, key_header=key_header, answer_limit=answer_limit
        )
        self._turns = Turns(
            Pacing(start=concurrency or START, most=concurrency or MOST),
            Rate(rpm) if rpm else None,
            Rate(tpm) if tpm else None,
            lambda: self._breaker.is_open,
        )
        self._is_held_back = False
        # The clocks of requests that wait for their turn or for another try, and their methods.
        self._waiting: dict[asyncio.Timeout, str] = {}
        self._breaker = Breaker(url, self._look, self._turns.go_on, patience=patience)

    async def get(
        self, path: str, *, timeout: float, heed: Collection[int] = (), tokens: int = 0
    ) -> Answer:
        """Ask with GET; see `post`."""
        return await self._ask("GET", path, None, timeout, heed, tokens)

    async def delete(
        self, path: str, *, timeout: float, heed: Collection[int] = (), tokens: int = 0
    ) -> Answer:
        """Ask with DELETE; see `post`."""
        return await self._ask("DELETE", path, None, timeout, heed, tokens)

    async def post(
        self,
        path: str,
        body: Any,
        *,
        timeout: float,
        heed: Collection[int] = (),
        tokens: int = 0,
    ) -> Answer:
        """Ask with POST, as often as is useful within the time limit.

        Args:
            path: What is asked, from the server's URL on.
            body: What is sent, as JSON; bytes are JSON already.
            timeout: Seconds for all tries together, without what is waited for: a turn, the
                time that the server asks for, its return.
            heed: Statuses that the caller understands: returned, not raised. Those that ask for
                patience are not among them.
            tokens: About how many tokens it takes, for `tpm`; see `count_tokens`.

        Raises:
            ProviderConnectionError: If the server cannot be reached, cannot be trusted, sends on
                to another address, or breaks off in the middle of its answer.
            ProviderDownError: If the server was there and has been away for too long.
            NotSentError: If requests are held back, and no answer to this one has begun.
            InferenceTimeoutError: If the whole answer is not there in time.
            InvalidRequestError: If the request, or its key, is refused.
            InferenceError: If the server stays too busy, fails, or answers with too much or with
                something that is not JSON.
        """
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return await self._ask("POST", path, content, timeout, heed, tokens)

    def count_tokens(self, difference: int) -> None:
        """Note that a request took so many more tokens than was said when it was sent."""
        self._turns.correct(difference)

    def hold_back(self) -> None:
        """Send nothing with POST from now on; what waits raises NotSentError.

        Questions about what is under way are still sent, unless the server is away.
        """
        self._is_held_back = True
        now = asyncio.get_running_loop().time()
        for clock, method in self._waiting.items():
            if self._is_over(method) and not clock.expired():
                clock.reschedule(now)

    def _is_over(self, method: str) -> bool:
        return self._is_held_back and (method == "POST" or self._breaker.is_open)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._breaker.aclose()
        await self._connections.aclose()

    async def _ask(
        self,
        method: str,
        path: str,
        content: bytes | None,
        timeout: float,
        heed: Collection[int],
        tokens: int,
    ) -> Answer:
        has_been_sent = False

        async def attempt() -> Answer:
            nonlocal has_been_sent
            if self._is_over(method):
                raise self._held_back(path)
            async with _stopped(clock):
                turn = await self._turns.take(tokens, again=has_been_sent, counts=method == "POST")
            if self._is_over(method):
                self._turns.end(turn, None)
                raise self._held_back(path)
            has_been_sent = True
            del self._waiting[clock]
            verdict = _Verdict()
            try:
                try:
                    return await self._send(method, path, content, heed, verdict)
                except asyncio.CancelledError:
                    if clock.expired():
                        verdict.kept_up = False
                    raise
                finally:
                    self._turns.end(turn, verdict.kept_up, verdict.pause)
            except TryAgainError as again:
                self._waiting[clock] = method
                async with _stopped(clock):
                    if await self._breaker.closed():
                        raise TryAgainError(again.error, was_away=True) from again.__cause__
                raise

        try:
            async with asyncio.timeout(timeout) as clock:
                patience = Patience(tries=self._tries, pace=self._pace, clock=clock)
                self._waiting[clock] = method
                return await patience.send(attempt)
        except TimeoutError as error:
            if clock in self._waiting and self._is_over(method):
                raise self._held_back(path) from None
            late = InferenceTimeoutError(
                f"{self.url}{path} did not answer in {timeout:g} s: "
                "allow more time, or lower the concurrency"
            )
            self._breaker.failed()
            raise late from error
        finally:
            self._waiting.pop(clock, None)

    def _held_back(self, path: str) -> NotSentError:
        return NotSentError(f"{self.url}{path} is not asked any more: this was to stop")

    async def _send(
        self,
        method: str,
        path: str,
        content: bytes | None,
        heed: Collection[int],
        verdict: _Verdict,
    ) -> Answer:
        where = self.url + path
        start = perf_counter()
        try:
            received = await self._connections.exchange(method, path, content)
        except UnansweredError as error:
            if error.is_lasting:
                raise error.error from error.__cause__
            logger.debug("%s %s: %s", method, where, error)
            self._breaker.failed()
            raise TryAgainError(error.error) from error.__cause__
        except InferenceError as error:
            if isinstance(error, ProviderConnectionError):
                self._breaker.failed()
            raise
        seconds = perf_counter() - start
        status = received.status
        logger.debug("%s %s: %d in %.3f s", method, where, status, seconds)
        if status not in refusals.PASSING:
            self._breaker.answered()
            # What went wrong in there may be because there is too much to do, or may not.
            verdict.kept_up = None if status >= 500 else True
        if received.is_success:
            value = _parsed(where, received)
            if self._key is not None:
                value = self._key.hide_in_answer(received.body, value)
            return Answer(where, status, value, "", seconds)
        said = refusals.saying(received.body, self._key)
        if status in heed:
            return Answer(where, status, None, said, seconds)
        location = received.headers.get("Location")
        if status in _REDIRECTIONS and location is not None:
            raise refusals.redirection(where, self._target(where, location, path))
        asked = retry_after(received.headers.get("Retry-After"))
        refusal = refusals.refusal(
            where,
            status,
            said,
            key=self._key,
            variable=self._variable,
            sent=len(content or b""),
            asked=asked,
        )
        if status in refusals.PASSING or (status == 500 and asked is not None):
            self._note(status, asked, verdict)
            raise TryAgainError(refusal, asked)
        raise refusal

    def _note(self, status: int, asked: float | None, verdict: _Verdict) -> None:
        """Note what an answer that asks for patience shows of the server."""
        if asked is None and status in refusals.AWAY:
            self._breaker.failed()
        else:
            self._breaker.answered()
        if status in refusals.BUSY:
            verdict.kept_up = False
        if asked is not None and asked <= retries.LONGEST_PAUSE_S:
            # Others were asked to wait for the same moment.
            verdict.pause = asked + random.uniform(0.0, self._pace)

    async def _look(self) -> InferenceError | None:
        """Ask the health route; return what is wrong, if anything is."""
        where = self.url + self._health
        try:
            async with asyncio.timeout(_LOOK_TIMEOUT_S):
                received = await self._connections.exchange("GET", self._health, None)
        except UnansweredError as error:
            return error.error
        except TimeoutError:
            return ProviderConnectionError(
                f"{where} does not answer in {_LOOK_TIMEOUT_S:g} s: is the server running?"
            )
        except InferenceError as error:
            return error if isinstance(error, ProviderConnectionError) else None
        if received.status in refusals.AWAY:
            return ProviderConnectionError(
                f"{where} says that the server is away ({received.status}): is it running?"
            )
        return None

    def _target(self, where: str, location: str, path: str) -> str:
        """Return where a redirection leads, as the URL that a user would have to give."""
        try:
            target = URL(where).join(URL(location))
            plain = str(target.with_user(None).with_query(None).with_fragment(None))
        except ValueError:
            return "an address that is none"
        return refusals.shown(plain.removesuffix(path), self._key)


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
        parsed = URL(url)
        host = parsed.host
    except (ValueError, TypeError):
        raise UsageError("the server's URL is none: http://HOST:PORT is wanted") from None
    if parsed.user or parsed.password or parsed.query_string or parsed.fragment:
        raise UsageError(
            f"the URL of {host} has more than a host and a path: leave out user, password, "
            "query and fragment, and give a key by environment variable or file"
        )
    if parsed.scheme not in ("http", "https") or not host or " " in host:
        raise UsageError("the server's URL is not whole: http://HOST:PORT is wanted")
    given = str(parsed).rstrip("/")
    return given + default_path if parsed.path == "/" else given


@asynccontextmanager
async def _stopped(clock: asyncio.Timeout) -> AsyncIterator[None]:
    """Let no time of a time limit run."""
    loop = asyncio.get_running_loop()
    end, start = clock.when(), loop.time()
    clock.reschedule(None)
    try:
        yield
    finally:
        if end is not None and not clock.expired():
            clock.reschedule(end + loop.time() - start)


def _parsed(where: str, received: Received) -> Any:
    if not received.body and received.status == 204:
        return None
    try:
        return orjson.loads(received.body)
    except orjson.JSONDecodeError as error:
        kind = received.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind.endswith("html"):
            raise InferenceError(
                f"{where} answers with a web page, not with JSON: check the URL"
            ) from error
        raise InferenceError(
            f"{where} answers with what is not JSON, or only the beginning of it: try again, "
            "and check the URL"
        ) from error
