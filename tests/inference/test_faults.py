"""What servers do to their clients, one test each: nothing is lost, and a line is told."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TypeVar

import pytest

from pixano_cli.inference import get_provider
from pixano_cli.inference.embedding import ImageEmbeddingInput
from pixano_cli.inference.errors import (
    InferenceError,
    InferenceTimeoutError,
    ProviderConnectionError,
    ProviderDownError,
)
from pixano_cli.inference.providers import breaker
from pixano_cli.inference.providers.http import Answer, HttpServer
from pixano_cli.inference.providers.keys import ApiKey
from pixano_cli.inference.providers.openai import OpenAIProvider
from pixano_cli.inference.providers.pacing import START

from .own_server import (
    OwnServer,
    Reply,
    after,
    answer,
    break_off,
    flood,
    own_server,
    reset,
    silence,
    stall,
    text,
)
from .remote import data_url, png

T = TypeVar("T")

KEY = "sk-planted-0123456789abcdef"
SLOW_SERVER = Path(__file__).parents[1] / "benchmarks" / "slow_server.py"
PATH = "/v1/embeddings"
VECTOR = answer({"data": [{"embedding": [0.25, 0.5]}]})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with own_server() as own:
        yield own


def vectors(url: str, count: int = 1, timeout: float = 10.0) -> list[list[float] | InferenceError]:
    """Return what comes of so many images, no two alike, asked for at once."""

    async def run() -> list[list[float] | InferenceError]:
        provider = get_provider("openai", url=url, pace=0.02)
        assert isinstance(provider, OpenAIProvider)

        async def one(index: int) -> list[float] | InferenceError:
            image = data_url(png(6 + index, 4))
            try:
                request = ImageEmbeddingInput(image=image, model="m")
                return (await provider.image_embedding(request, timeout)).data.embedding
            except InferenceError as error:
                return error

        try:
            return await asyncio.gather(*map(one, range(count)))
        finally:
            await provider.aclose()

    return asyncio.run(run())


def told(own: OwnServer, timeout: float = 10.0) -> tuple[type[InferenceError], str]:
    """Return what is told of one image that comes to nothing: one line without the key."""
    [error] = vectors(own.url, timeout=timeout)
    assert isinstance(error, InferenceError)
    line = str(error)
    assert own.url in line
    assert "\n" not in line
    assert KEY not in line
    return type(error), line


def test_429_without_retry_after(server: OwnServer) -> None:
    server.on(PATH, answer({"error": "slow down"}, 429), answer({}, 429), VECTOR)
    assert vectors(server.url) == [[0.25, 0.5]]
    assert len(server.asked) == 3
    server.on(PATH, answer({"error": "slow down"}, 429))
    kind, line = told(server)
    assert kind is InferenceError
    assert "is too busy (429: slow down): lower the concurrency" in line


def test_429_with_retry_after_is_obeyed_by_all(server: OwnServer) -> None:
    refused: list[float] = []
    asked: list[float] = []

    def reply(handler: object) -> None:
        asked.append(monotonic())
        if len(asked) == 1:
            refused.append(monotonic())
            answer({}, 429, Retry_After="1")(handler)  # type: ignore[arg-type]
        else:
            after(0.05, VECTOR)(handler)  # type: ignore[arg-type]

    server.on(PATH, reply)
    assert vectors(server.url, 30) == [[0.25, 0.5]] * 30
    assert len(asked) == 31
    # Those that were on their way already are not held up, all others are.
    late = [moment - refused[0] for moment in asked if moment - refused[0] > 0.3]
    assert len(late) >= 31 - START
    assert min(late) >= 1.0


@pytest.mark.parametrize("status", [502, 503, 504, 529])
def test_a_server_that_is_busy_for_a_moment(server: OwnServer, status: int) -> None:
    server.on(PATH, answer({}, status), answer({}, status), VECTOR)
    assert vectors(server.url) == [[0.25, 0.5]]
    assert len(server.asked) == 3


def test_500(server: OwnServer) -> None:
    server.on(PATH, answer({"error": {"message": "out of memory"}}, 500), VECTOR)
    kind, line = told(server)
    assert kind is InferenceError
    assert "failed (500: out of memory): its own log may say why" in line
    assert len(server.asked) == 1


def test_connections_that_are_reset(server: OwnServer) -> None:
    server.on(PATH, reset, reset, VECTOR)
    assert vectors(server.url) == [[0.25, 0.5]]
    server.on(PATH, reset)
    kind, line = told(server)
    assert kind is ProviderConnectionError
    assert "cannot be reached (connection reset by peer): is the server running" in line


@pytest.mark.parametrize("reply", [stall, silence])
def test_a_stalled_answer(server: OwnServer, reply: Reply) -> None:
    server.on(PATH, reply, VECTOR)
    kind, line = told(server, timeout=0.4)
    assert kind is InferenceTimeoutError
    assert "did not answer in 0.4 s: allow more time, or lower the concurrency" in line
    assert len(server.asked) == 1


def test_an_answer_that_breaks_off(server: OwnServer) -> None:
    server.on(PATH, break_off, VECTOR)
    kind, line = told(server)
    assert kind is ProviderConnectionError
    assert "broke off in the middle of its answer (connection closed): try again" in line
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (text('{"data": [{"embedding": [0.1, 0'), "what is not JSON, or only the beginning of it"),
        (answer({"data": {"embedding": [1]}}), "answers otherwise than documented (data: Input"),
        (answer({"data": [{"embedding": ["x"]}]}), "documented (data.0.embedding.0: Input should"),
        (answer([]), "answers otherwise than documented (the answer: Input"),
        (text(""), "what is not JSON"),
        (text("", 204), "answers otherwise than documented"),
        (answer({"data": []}), "answers otherwise than documented (data: List should have at"),
        (flood, "answers with more than 8,388,608 bytes, which cannot be the answer"),
        (text(b" " * 10_000_000), "answers with more than 8,388,608 bytes"),
        (text("<html>Sign in</html>", kind="text/html"), "a web page, not with JSON: check"),
    ],
    ids=["cut", "schema", "type", "list", "empty", "no-content", "none", "flood", "10-mb", "html"],
)
def test_an_answer_that_is_none(server: OwnServer, reply: Reply, line: str) -> None:
    server.on(PATH, reply, VECTOR)
    kind, said = told(server)
    assert kind is InferenceError
    assert line in said
    assert len(server.asked) == 1


def test_a_server_that_starts_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    port = free_port()

    async def later() -> list[list[float] | InferenceError]:
        asking = asyncio.create_task(asyncio.to_thread(vectors, f"http://127.0.0.1:{port}", 20))
        await asyncio.sleep(2.0)
        with own_server(port=port) as own:
            own.on(PATH, VECTOR)
            got = await asking
            assert own.paths().count(PATH) == 20
            return got

    assert asyncio.run(later()) == [[0.25, 0.5]] * 20


def test_a_server_that_never_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "FIRST_PATIENCE_S", 0.5)
    url = f"http://127.0.0.1:{free_port()}"
    [error] = vectors(url)
    assert isinstance(error, ProviderConnectionError)
    assert str(error).startswith(f"{url}/v1 cannot be reached (connection refused): is")


def test_a_certificate_that_nobody_vouches_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=own", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "made.pem")]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)
    both = tmp_path / "both.pem"
    both.write_bytes((tmp_path / "key.pem").read_bytes() + (tmp_path / "made.pem").read_bytes())
    with own_server(str(both)) as own:
        own.on(PATH, VECTOR)
        kind, line = told(own)
        assert kind is ProviderConnectionError
        assert "its certificate is not valid (self-signed certificate)" in line
        assert own.asked == []
        assert own.connections == 1


def test_a_redirection_to_another_host_gets_nothing(server: OwnServer) -> None:
    with own_server() as other:
        other.on(PATH, VECTOR)
        server.on(PATH, answer({}, 307, Location=f"{other.url}{PATH}"))
        kind, line = told(server)
        assert kind is ProviderConnectionError
        assert f"sends on to {other.url}/v1, where nothing was sent" in line
        assert "if that is right, give its address as the URL" in line
        assert (other.asked, other.connections) == ([], 0)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def slow_server(*options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the light server in a process of its own; yield its URL."""
    command = [sys.executable, str(SLOW_SERVER), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def log_of(file: Path) -> dict[str, Counter[str]]:
    """Return how often the light server was asked for what, and how often it answered."""
    noted: dict[str, Counter[str]] = {"asked": Counter(), "answered": Counter()}
    for line in file.read_text().splitlines():
        what, which = line.split()
        noted[what][which] += 1
    return noted


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.005)


def test_a_server_that_is_killed_and_started_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    port = str(free_port())
    options = ("--takes", "0.05", "--port", port, "--log", str(log))
    count = 120

    async def run() -> list[list[float] | InferenceError]:
        with slow_server(*options) as (url, process):
            asking = asyncio.create_task(asyncio.to_thread(vectors, url, count))
            await until(lambda: log_of(log)["answered"].total() >= 30)
            process.send_signal(signal.SIGKILL)
            process.wait()
        before = log_of(log)
        assert before["answered"].total() < count
        await asyncio.sleep(1.0)
        with slow_server(*options):
            got = await asking
        noted = log_of(log)
        assert len(noted["asked"]) == len(noted["answered"]) == count
        # What was answered just before the end may not have arrived: the rest was under way.
        under_way = before["asked"].total() - before["answered"].total()
        twice = [which for which, times in noted["asked"].items() if times > 1]
        assert set(noted["asked"].values()) <= {1, 2}
        assert set(twice) <= set(before["asked"])
        assert len(twice) <= under_way + 8
        return got

    assert asyncio.run(run()) == [[0.25, 0.5, 1.0, 0.125]] * count


def with_http(url: str, ask: Callable[[HttpServer], Awaitable[T]], **options: float) -> T:
    async def run() -> T:
        http = HttpServer(url, key=ApiKey(KEY, "a file"), variable="K", pace=0.02, **options)  # type: ignore[arg-type]
        try:
            return await ask(http)
        finally:
            await http.aclose()

    return asyncio.run(run())


def test_a_server_that_goes_and_stays_away() -> None:
    port = free_port()

    async def started(http: HttpServer) -> list[Answer | BaseException]:
        with slow_server("--takes", "0", "--port", str(port)) as (_, process):
            await http.post("/v1/embeddings", {}, timeout=5)
            process.kill()
            process.wait()
        asking = (http.post("/v1/embeddings", {}, timeout=5) for _ in range(100))
        return await asyncio.gather(*asking, return_exceptions=True)

    start = monotonic()
    got = with_http(f"http://127.0.0.1:{port}", started, patience=1.0)
    assert monotonic() - start < 8.0
    assert {type(each) for each in got} == {ProviderDownError}
    assert "not lost, run again when it is back" in str(got[0])


def test_a_request_that_takes_the_server_down_each_time_comes_to_an_end(
    server: OwnServer,
) -> None:
    """It does not take the others with it."""
    health = [answer({}, 503), answer({})] * 50
    server.on("/health", *health)
    server.on("/poison", reset)
    server.on("/x", VECTOR)

    async def ask(http: HttpServer) -> list[Answer | BaseException]:
        poison = http.post("/poison", {}, timeout=5)
        others = (http.post("/x", {}, timeout=5) for _ in range(50))
        return await asyncio.gather(poison, *others, return_exceptions=True)

    poisoned, *others = with_http(server.url, ask)
    assert isinstance(poisoned, ProviderConnectionError)
    assert all(isinstance(each, Answer) for each in others)
    paths = Counter(server.paths())
    assert paths["/x"] == 50
    assert paths["/poison"] <= 20


def test_no_more_a_minute_than_asked_for(
    server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixano_cli.inference.providers.rates.WINDOW_S", 1.0)
    asked: list[float] = []

    def reply(handler: object) -> None:
        asked.append(monotonic())
        VECTOR(handler)  # type: ignore[arg-type]

    server.on("/x", reply)

    async def ask(http: HttpServer) -> list[Answer]:
        return await asyncio.gather(*(http.post("/x", {}, timeout=0.5) for _ in range(25)))

    assert len(with_http(server.url, ask, rpm=10)) == 25
    for first in asked:
        # A request may arrive somewhat later than it was sent.
        assert sum(first <= moment < first + 0.9 for moment in asked) <= 11
    assert asked[-1] - asked[0] < 3.5


def test_tokens_are_waited_for_and_corrected(
    server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixano_cli.inference.providers.rates.WINDOW_S", 1.0)
    server.on("/x", VECTOR)

    async def ask(http: HttpServer) -> float:
        start = monotonic()
        await http.post("/x", {}, timeout=5, tokens=100)
        http.count_tokens(-90)
        await http.post("/x", {}, timeout=5, tokens=80)
        assert monotonic() - start < 0.95
        await http.post("/x", {}, timeout=5, tokens=80)
        return monotonic() - start

    assert 0.9 <= with_http(server.url, ask, tpm=100) < 3.0
