"""Asking over HTTP: what goes out, what is tried again, what is refused, what users are told."""

import asyncio
import gzip
import json
import logging
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from time import monotonic
from typing import Any, TypeVar

import pytest

from pixano_cli.inference.errors import (
    InferenceError,
    InferenceTimeoutError,
    InvalidRequestError,
    ProviderConnectionError,
)
from pixano_cli.inference.providers import retries
from pixano_cli.inference.providers.http import ANSWER_LIMIT, Answer, HttpServer
from pixano_cli.inference.providers.keys import ApiKey

from .own_server import (
    OwnServer,
    Reply,
    after,
    answer,
    break_off,
    end_early,
    endless_refusal,
    flood,
    garbage,
    own_server,
    reset,
    silence,
    stall,
    text,
)

T = TypeVar("T")

KEY = "sk-planted-0123456789abcdef"
OK = answer({"well": 1})


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_server() as own:
        yield own


def with_server(
    url: str, ask: Callable[[HttpServer], Awaitable[T]], *, key: str | None = None, **options: Any
) -> T:
    async def run() -> T:
        settings: dict[str, Any] = {"variable": "OUR_KEY", "concurrency": 4, "pace": 0.02} | options
        http = HttpServer(url, key=ApiKey(key, "the file 'k'") if key else None, **settings)
        try:
            return await ask(http)
        finally:
            await http.aclose()

    return asyncio.run(run())


def get(own: OwnServer, timeout: float = 10.0, **options: Any) -> Answer:
    return with_server(own.url, lambda http: http.get("/x", timeout=timeout), **options)


def fails(own: OwnServer, timeout: float = 10.0, **options: Any) -> InferenceError:
    with pytest.raises(InferenceError) as raised:
        get(own, timeout, **options)
    line = str(raised.value)
    assert "\n" not in line
    assert own.url in line
    return raised.value


def test_json_goes_out_and_comes_back(server: OwnServer) -> None:
    server.on("/x", answer({"a": [1, 2.5, None]}))
    got = with_server(
        server.url, lambda http: http.post("/x", {"b": "é"}, timeout=10, heed={404}), key=KEY
    )
    assert (got.status, got.value, got.said, got.where) == (
        200,
        {"a": [1, 2.5, None]},
        "",
        f"{server.url}/x",
    )
    assert 0 < got.seconds < 10
    [asked] = server.asked
    assert (asked.method, asked.body) == ("POST", {"b": "é"})
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.headers["User-Agent"].startswith("pixano-annotate/")
    assert asked.headers["Accept-Encoding"] == "identity"
    assert KEY not in json.dumps({**asked.headers, "Authorization": ""})
    assert KEY not in asked.path


def test_without_a_key_no_header_is_sent(server: OwnServer) -> None:
    server.on("/x", OK)
    get(server)
    assert "Authorization" not in server.asked[0].headers


@pytest.mark.parametrize("status", [429, 502, 503, 504, 529])
def test_a_busy_server_is_asked_again(server: OwnServer, status: int) -> None:
    server.on("/x", answer({}, status), answer({}, status), OK)
    assert get(server).value == {"well": 1}
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (429, InferenceError, "lower the concurrency"),
        (503, InferenceError, "lower the concurrency"),
        (529, InferenceError, "lower the concurrency"),
        (502, InferenceError, "is a gateway whose server is away"),
        (504, InferenceTimeoutError, "took too long for itself"),
    ],
)
def test_tries_are_bounded(
    server: OwnServer, status: int, kind: type[InferenceError], told: str
) -> None:
    server.on("/x", answer({"error": {"message": "later"}}, status))
    error = fails(server, tries=3)
    assert type(error) is kind
    assert f"({status}: later)" in str(error)
    assert told in str(error)
    assert len(server.asked) == 3


def test_a_failure_that_says_when_to_come_back_is_asked_again(server: OwnServer) -> None:
    server.on("/x", answer({}, 500, Retry_After="0"), OK)
    assert get(server).value == {"well": 1}
    assert len(server.asked) == 2


def test_retry_after_is_obeyed_and_does_not_count(server: OwnServer) -> None:
    server.on("/x", answer({}, 429, Retry_After="1"), OK)
    start = monotonic()
    assert get(server, timeout=0.9).value == {"well": 1}
    assert 1.0 <= monotonic() - start < 3.0


def test_a_wait_that_is_too_long_is_not_begun(server: OwnServer) -> None:
    server.on("/x", answer({}, 429, Retry_After="3600"))
    start = monotonic()
    assert "too busy" in str(fails(server))
    assert monotonic() - start < 10.0
    assert len(server.asked) == 1


def test_waits_that_are_asked_for_are_bounded_together(
    server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "LONGEST_PAUSE_S", 1.5)
    server.on("/x", answer({}, 529, Retry_After="1"))
    assert "too busy" in str(fails(server))
    assert len(server.asked) == 2


def test_a_try_that_would_come_too_late_is_not_waited_for(server: OwnServer) -> None:
    server.on("/x", answer({}, 503))
    start = monotonic()
    error = fails(server, timeout=1.0, pace=60.0, tries=50)
    assert "too busy" in str(error)
    assert monotonic() - start < 5.0


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (400, InvalidRequestError, "refuses the request (400: no)"),
        (401, InvalidRequestError, "wants an API key (401: no): set OUR_KEY"),
        (403, InvalidRequestError, "wants an API key (403: no): set OUR_KEY"),
        (404, InvalidRequestError, "is not there (404: no): check the URL"),
        (405, InvalidRequestError, "is not there (405: no)"),
        (409, InvalidRequestError, "refuses the request (409: no)"),
        (413, InvalidRequestError, "takes no 0.0 MB at once (413: no): send a smaller image"),
        (422, InvalidRequestError, "refuses the request (422: no)"),
        (500, InferenceError, "failed (500: no): its own log may say why"),
        (304, InferenceError, "is not understood (304"),
    ],
)
def test_what_will_not_change_is_asked_once(
    server: OwnServer, status: int, kind: type[InferenceError], told: str
) -> None:
    # 304 has no body.
    server.on("/x", answer({"error": "no"}, status) if status != 304 else text("", 304), OK)
    error = fails(server)
    assert type(error) is kind
    assert told in str(error)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_told_by_where_it_is_from(server: OwnServer, status: int) -> None:
    server.on("/x", answer({"error": f"bad key {KEY}"}, status))
    message = str(fails(server, key=KEY))
    assert "refuses the API key of the file 'k'" in message
    assert KEY not in message
    assert "bad key [API key]" in message


def test_what_is_heeded_is_returned(server: OwnServer) -> None:
    server.on("/x", answer({"error": {"message": "no such model"}}, 404))
    got = with_server(server.url, lambda http: http.get("/x", timeout=9, heed={404}))
    assert (got.status, got.value, got.said, got.is_success) == (404, None, "no such model", False)


def test_a_connection_that_is_reset_before_an_answer_is_made_again(server: OwnServer) -> None:
    server.on("/x", reset, reset, OK)
    assert get(server).value == {"well": 1}
    assert len(server.asked) == 3


def test_resets_without_end(server: OwnServer) -> None:
    server.on("/x", reset)
    with pytest.raises(ProviderConnectionError) as raised:
        with_server(server.url, lambda http: http.post("/x", {}, timeout=10), tries=4)
    assert "cannot be reached (connection reset by peer)" in str(raised.value)
    assert len(server.asked) == 4


@pytest.mark.parametrize("reply", [break_off, end_early])
def test_an_answer_that_has_begun_is_not_asked_for_again(server: OwnServer, reply: Reply) -> None:
    server.on("/x", reply, OK)
    error = fails(server)
    assert isinstance(error, ProviderConnectionError)
    assert "broke off in the middle of its answer" in str(error)
    assert len(server.asked) == 1


@pytest.mark.parametrize("reply", [stall, silence])
def test_what_takes_too_long_is_not_waited_for(server: OwnServer, reply: Reply) -> None:
    server.on("/x", reply, OK)
    start = monotonic()
    error = fails(server, timeout=0.5)
    assert isinstance(error, InferenceTimeoutError)
    assert "did not answer in 0.5 s" in str(error)
    assert 0.5 <= monotonic() - start < 2.0
    assert len(server.asked) == 1


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ProviderConnectionError) as raised:
            with_server(url, lambda http: http.get("/x", timeout=10), tries=2)
    told = "cannot be reached (connection refused): is the server running, and the URL right?"
    assert str(raised.value) == f"{url} {told}"


def test_a_host_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def unknown(*args: object, **options: object) -> None:
        asked.append(args)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ProviderConnectionError, match=r"cannot be reached \(name or service not"):
        with_server("http://gpu-sever", lambda http: http.post("/x", {}, timeout=10))
    assert len(asked) == 1


def test_a_server_that_comes_later_is_found() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

    async def ask(http: HttpServer) -> Answer:
        asking = asyncio.create_task(http.get("/x", timeout=10))
        await asyncio.sleep(0.1)
        with own_server(port=port) as own:
            own.on("/x", OK)
            return await asking

    url = f"http://127.0.0.1:{port}"
    assert with_server(url, ask, pace=0.5, tries=20).value == {"well": 1}


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (text('{"data": [1, 2'), "what is not JSON, or only the beginning of it"),
        (text(""), "what is not JSON"),
        (text('{"a": NaN}'), "what is not JSON"),
        (text("[" * 100_000), "what is not JSON"),
        (text("<html>Log in</html>", kind="text/html; charset=utf-8"), "a web page, not with JSON"),
        (flood, f"more than {ANSWER_LIMIT:,} bytes"),
        (text(b'"' + b"x" * 10_000_000 + b'"'), f"more than {ANSWER_LIMIT:,} bytes"),
        (
            text(
                gzip.compress(b'"' + b"x" * 10_000_000 + b'"'), headers={"Content-Encoding": "gzip"}
            ),
            "compresses its answer (gzip)",
        ),
    ],
)
def test_an_answer_that_is_none(server: OwnServer, reply: Reply, told: str) -> None:
    server.on("/x", reply, OK)
    error = fails(server)
    assert type(error) is InferenceError
    assert told in str(error)
    assert len(server.asked) == 1


def test_a_refusal_without_end_is_read_as_far_as_is_worth(server: OwnServer) -> None:
    server.on("/x", endless_refusal)
    message = str(fails(server))
    assert "(400: no no no" in message
    assert len(message) < 500


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirection_is_not_followed(server: OwnServer, status: int) -> None:
    with own_server() as other:
        other.on("/v2/x", OK)
        location = f"{other.url.replace('//', '//user:pass@')}/v2/x?key={KEY}#top"
        server.on("/x", answer({}, status, Location=location))
        error = fails(server, key=KEY)
        assert isinstance(error, ProviderConnectionError)
        assert f"sends on to {other.url}/v2, where nothing was sent" in str(error)
        assert "pass" not in str(error)
        assert KEY not in str(error)
        assert other.asked == []
    assert len(server.asked) == 1


@pytest.mark.parametrize("location", ["", "http://[", "//", f"/{KEY}/x"])
def test_a_redirection_to_nowhere(server: OwnServer, location: str) -> None:
    server.on("/x", answer({}, 302, Location=location))
    error = fails(server, key=KEY)
    assert KEY not in str(error)
    assert len(server.asked) == 1


def test_no_more_at_once_than_asked_for(server: OwnServer) -> None:
    server.on("/x", after(0.05, OK))

    async def ask(http: HttpServer) -> list[Answer]:
        # What waits for its turn has not begun: no time of it runs.
        return await asyncio.gather(*(http.get("/x", timeout=0.5) for _ in range(60)))

    assert len(with_server(server.url, ask, concurrency=3)) == 60
    assert server.most_at_once == 3


def test_a_request_that_is_given_up_frees_its_place(server: OwnServer) -> None:
    server.on("/x", silence, OK)

    async def ask(http: HttpServer) -> Answer:
        first = asyncio.create_task(http.get("/x", timeout=30))
        while not server.asked:
            await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await http.get("/x", timeout=5)

    assert with_server(server.url, ask, concurrency=1).value == {"well": 1}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A certificate for 127.0.0.1 that nobody vouches for."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("certificate")
    key, made = folder / "key.pem", folder / "made.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=own", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command, *names, "-keyout", key, "-out", made], check=True, capture_output=True
    )
    both = folder / "both.pem"
    both.write_bytes(key.read_bytes() + made.read_bytes())
    return str(both)


def test_a_certificate_that_nobody_vouches_for(
    certificate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with own_server(certificate) as own:
        own.on("/x", OK)
        error = fails(own, key=KEY)
        assert isinstance(error, ProviderConnectionError)
        assert own.connections == 1
        assert "its certificate is not valid (self-signed certificate)" in str(error)
        assert own.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
        assert get(own).value == {"well": 1}


def test_tls_where_there_is_none(server: OwnServer) -> None:
    url = server.url.replace("http://", "https://")
    with pytest.raises(ProviderConnectionError) as raised:
        with_server(url, lambda http: http.get("/x", timeout=10))
    assert "is it http:// rather than https://?" in str(raised.value)
    assert url in str(raised.value)
    assert server.asked == []
    assert server.connections == 1


def test_what_speaks_another_protocol(server: OwnServer) -> None:
    server.on("/x", garbage, OK)
    error = fails(server, key=KEY)
    assert isinstance(error, ProviderConnectionError)
    assert "does not speak HTTP as it should: is the URL right" in str(error)
    assert len(server.asked) == 1


def test_a_key_travels_in_the_header_that_is_wanted(server: OwnServer) -> None:
    server.on("/x", OK)
    get(server, key=KEY, key_header="x-goog-api-key")
    assert server.asked[0].headers["x-goog-api-key"] == KEY
    assert "Authorization" not in server.asked[0].headers


def test_what_is_deleted_may_answer_nothing(server: OwnServer) -> None:
    server.on("/x", text("", 204))
    got = with_server(server.url, lambda http: http.delete("/x", timeout=5), key=KEY)
    assert (got.status, got.value, got.is_success) == (204, None, True)
    assert server.asked[0].method == "DELETE"


def test_a_large_body_goes_out_whole(server: OwnServer) -> None:
    body = {"image": "x" * 3_000_000}
    server.on("/x", answer({}, 503), OK)
    with_server(server.url, lambda http: http.post("/x", body, timeout=5))
    assert [asked.body for asked in server.asked] == [body, body]
    server.on("/x", OK)
    with_server(server.url, lambda http: http.post("/x", b'{"made": 1}', timeout=5))
    assert server.asked[-1].body == {"made": 1}


def test_cookies_are_not_kept(server: OwnServer) -> None:
    server.on("/x", answer({}, Set_Cookie="a=b"), OK)

    async def ask(http: HttpServer) -> None:
        await http.get("/x", timeout=5)
        await http.get("/x", timeout=5)

    with_server(server.url, ask)
    assert all("Cookie" not in asked.headers for asked in server.asked)


def test_a_proxy_of_the_environment_is_used(
    server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    server.on("http://far.example/x", OK)
    got = with_server("http://far.example", lambda http: http.get("/x", timeout=5))
    assert got.value == {"well": 1}
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server.on("/x", OK)
    assert get(server).value == {"well": 1}


@pytest.mark.parametrize("last", [answer({"detail": f"Bearer {KEY}"}, 500), garbage])
def test_a_key_is_in_no_log_and_no_cause(
    server: OwnServer, caplog: pytest.LogCaptureFixture, last: Reply
) -> None:
    caplog.set_level(logging.DEBUG)
    server.on("/x", answer({}, 503), reset, last)
    with pytest.raises(InferenceError) as raised:
        get(server, key=KEY)
    assert server.asked[0].headers["Authorization"].endswith(KEY)
    assert caplog.records
    for record in caplog.records:
        assert KEY not in record.getMessage()
        assert KEY not in repr(record.__dict__)
    error: BaseException | None = raised.value
    while error is not None:
        assert KEY not in f"{error!r} {error} {vars(error)}"
        error = error.__cause__ or error.__context__
