"""Where a key is planted it is sent to its server, and is found nowhere else afterwards."""

from __future__ import annotations

import html
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest

from .annotating import LISTING, Done, Work, end, say
from .own_server import Handler, OwnServer, Reply, answer, own_server, text

KEY = "sk-planted+/Ab0123456789=="
COUNT = 3

Command = Callable[..., Done]

ROUTES = {
    "openai": "/v1/chat/completions",
    "vllm": "/v1/chat/completions",
    "gemini": "/v1beta/models/seer:generateContent",
    "pixano-inference": "/v1/inference/detection",
}
VARIABLES = {
    "openai": "OPENAI_API_KEY",
    "vllm": "VLLM_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "pixano-inference": "PIXANO_INFERENCE_API_KEY",
}


def disguises(key: str = KEY) -> dict[str, str]:
    """Return the forms in which somebody may show a key."""
    return {
        "plain": key,
        "percent": quote(key, safe=""),
        "lower percent": quote(key, safe="").replace("%2B", "%2b").replace("%3D", "%3d"),
        "some percent": quote(key),
        "all percent": "".join(f"%{ord(each):02X}" for each in key),
        "base64": b64encode(key.encode()).decode(),
        "url base64": urlsafe_b64encode(key.encode()).decode(),
        "basic": "Basic " + b64encode(f"user:{key}".encode()).decode(),
        "basic password": "Basic " + b64encode(f":{key}".encode()).decode(),
        "basic user": "Basic " + b64encode(f"{key}:".encode()).decode(),
        "bearer": f"Bearer {key}",
    }


def traces(key: str = KEY) -> list[bytes]:
    """Return what is to be found nowhere: parts of a key in each of its forms."""
    found = [key, quote(key, safe=""), quote(key), json.dumps(key)[1:-1], html.escape(key)]
    found.append("".join(f"%{ord(each):02X}" for each in key)[6:60])
    # Without what depends on the text around it.
    for before in ("", "x", "xx"):
        found += [
            encode((before + key).encode()).decode()[4:28]
            for encode in (b64encode, urlsafe_b64encode)
        ]
    return [each.encode() for each in found] + [key[:12].encode(), key[-12:].encode()]


def check_nowhere(work: Work, done: Done) -> None:
    """Check that no form of the key was printed or written."""
    for trace in traces():
        assert trace not in (done.out + done.err).encode(), trace
        assert trace.lower() not in (done.out + done.err).lower().encode(), trace
        for file in work.folder.rglob("*"):
            assert not file.is_file() or trace not in file.read_bytes(), (file, trace)


def say_as(provider: str, said: str) -> Reply:
    """Answer with a text, or a label, as the server of a provider does."""
    if provider == "gemini":
        usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
        candidate = {"content": {"parts": [{"text": said}]}, "finishReason": "STOP"}
        return answer({"candidates": [candidate], "usageMetadata": usage, "modelVersion": said})
    if provider == "pixano-inference":
        found = {"boxes": [[1, 2, 30, 20]], "scores": [0.9], "classes": [said]}
        facts = {"id": said, "status": "SUCCESS", "processingTime": 0.1}
        times = {"timestamp": "2026-01-01T00:00:00Z", "metadata": {"usage": {}, said: said}}
        return answer({**facts, **times, "data": found})
    return say(said)


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_server() as own:
        own.on("/v1/models", LISTING)
        own.on("/v1beta/models/seer", answer({"name": "models/seer"}))
        yield own


@pytest.fixture(params=[*ROUTES])
def provider(request: pytest.FixtureRequest, server: OwnServer) -> str:
    name: str = request.param
    if name == "pixano-inference":
        server.on("/v1/info", answer({"appName": "own", "appVersion": "0.7.1"}))
        listed = {"name": "seer", "capability": "detection", "status": "RUNNING"}
        server.on("/v1/models", answer([listed]))
    return name


def asked(work: Work, provider: str, url: str, *options: str) -> list[str]:
    task = "detect" if provider == "pixano-inference" else "caption"
    seen = ["--provider", provider, "--url", url, "--model", "seer", *options]
    return work.command(*seen, task=task)


def was_sent(server: OwnServer, provider: str) -> bool:
    """Tell whether every request had the key, in its one header."""
    for each in server.asked:
        with_key = {name.lower() for name, value in each.headers.items() if KEY in value}
        header = {"gemini": "x-goog-api-key"}
        if with_key != {header.get(provider, "authorization")}:
            return False
        assert KEY not in each.path
        assert KEY not in json.dumps(each.body)
    return bool(server.asked)


@pytest.mark.parametrize("source", ["environment", "file"])
def test_a_server_that_repeats_the_key_wherever_it_can(
    work: Work,
    command: Command,
    server: OwnServer,
    provider: str,
    source: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    work.pictures(COUNT)
    options = ["--debug", "-v"]
    if source == "environment":
        monkeypatch.setenv(VARIABLES[provider], f"{KEY}\n")
    else:
        (tmp_path / "key").write_text(f"{KEY}\n")
        options += ["--api-key-file", str(tmp_path / "key")]
    shown = "; ".join(disguises().values())
    server.on(ROUTES[provider], say_as(provider, f"a cat, {shown}"))
    done = command(*asked(work, provider, server.url, *options))
    assert done.code == 0, done.err
    assert was_sent(server, provider)
    check_nowhere(work, done)
    kept = b"".join(each.read_bytes() for each in (work.folder / "store").iterdir())
    # Labels that were not asked for are not kept at all.
    is_kept = provider != "pixano-inference"
    assert (kept.count(b"a cat, [API key]; [API key]") >= COUNT) == is_kept
    again = command(*asked(work, provider, server.url, *options))
    assert again.counts == (COUNT, 0, COUNT, 0)
    assert command("export", "-o", "other.parquet", "--store", "store").code == 0
    shown_store = command("store", "list", "--json", "--store", "store")
    check_nowhere(work, shown_store)


def echoes() -> dict[str, Reply]:
    """Return answers that repeat the key and are none."""
    found: dict[str, Reply] = {}
    for name, form in disguises().items():
        found[f"{name} in a refusal"] = answer({"error": {"message": f"bad key {form}!"}}, 401)
        found[f"{name} in an address"] = answer({}, 307, Location=f"http://127.0.0.1:1/v1/{form}")
    shown = "; ".join(disguises().values())
    listed = {"detail": [{"loc": ["header", KEY], "msg": shown}]}
    page = f"<html>{KEY}</html>"
    return found | {
        "400": answer({"error": shown}, 400),
        "422": answer(listed, 422),
        "500": answer(shown, 500),
        "503": text(shown, 503, "text/plain"),
        "429": answer({"error": KEY}, 429, Retry_After=KEY),
        "encoding": text("{}", headers={"Content-Encoding": KEY}),
        "headers": text("{", headers={"X-Key": KEY, "WWW-Authenticate": f"Bearer {KEY}"}),
        "kind": text("{", kind=KEY),
        "cookie": text("{", headers={"Set-Cookie": f"key={KEY}"}),
        "user in an address": answer({}, 302, Location=f"http://{KEY}:{KEY}@127.0.0.1:1/v1"),
        "query": answer({}, 302, Location=f"http://127.0.0.1:1/v1?key={KEY}#{KEY}"),
        "host": answer({}, 302, Location=f"http://{KEY}/v1"),
        "page": text(page, kind="text/html"),
        "cut": text(f'{{"key": "{KEY}", "'),
        "schema": answer({KEY: KEY, "choices": KEY, "candidates": KEY, "data": KEY, "status": KEY}),
        "header without a colon": raw(f"HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n"),
        "status": raw(f"HTTP/1.1 {KEY} OK\r\n\r\n"),
        "length": raw(f"HTTP/1.1 200 OK\r\nContent-Length: {KEY}\r\n\r\n"),
        "reason": raw(f"HTTP/1.1 400 {KEY}\r\nContent-Length: 0\r\n\r\n"),
        "chunk": raw(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n"),
        "line": raw(f"{KEY}\r\n\r\n"),
    }


def raw(sent: str) -> Reply:
    """Send bytes that are no answer."""

    def reply(handler: Handler) -> None:
        handler.wfile.write(sent.encode())
        handler.close_connection = True

    return reply


def test_faults_that_repeat_the_key(
    work: Work,
    command: Command,
    server: OwnServer,
    provider: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work.pictures(1)
    monkeypatch.setenv(VARIABLES[provider], KEY)
    for name, reply in echoes().items():
        server.on(ROUTES[provider], reply)
        done = command(*asked(work, provider, server.url, "--debug", "-v"))
        assert done.code == 3, (name, done.err)
        assert len(work.failed()) == 1
        check_nowhere(work, done)
    assert was_sent(server, provider)


def test_a_listing_that_repeats_the_key(
    work: Work, command: Command, server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.pictures(1)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name, reply in echoes().items():
        server.on("/v1/models", reply)
        done = command(*asked(work, "openai", server.url, "--debug"))
        assert done.code in (1, 2, 3), name
        check_nowhere(work, done)
        check_nowhere(work, command("providers", "list", "--debug"))
    server.on("/v1/models", answer({"data": [{"id": KEY, "owned_by": KEY}]}))
    check_nowhere(work, command(*asked(work, "openai", server.url, "--debug")))


@pytest.mark.parametrize("raised", ["request", "session", "orjson"])
def test_an_error_that_nobody_expects(
    work: Work, command: Command, server: OwnServer, monkeypatch: pytest.MonkeyPatch, raised: str
) -> None:
    work.pictures(1)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.on(ROUTES["openai"], say("text"))

    async def fails(self: aiohttp.ClientSession, *what: object, **more: object) -> None:
        raise RuntimeError(f"{dict(self.headers)} {self.headers['Authorization']} {what} {more}")

    def is_broken(*_: object) -> None:
        raise RuntimeError(f"cannot write {disguises()}")

    if raised == "request":
        monkeypatch.setattr(aiohttp.ClientSession, "_request", fails)
    elif raised == "session":
        monkeypatch.setattr(
            "pixano_cli.inference.providers.connections.Connections._open", is_broken
        )
    else:
        monkeypatch.setattr("pixano_cli.inference.providers.openai.said_in", is_broken)
    done = command(*asked(work, "openai", server.url, "--debug", "-v"))
    assert done.code == (3 if raised == "orjson" else 1)
    assert "RuntimeError" in done.err
    assert "[API key]" in done.err
    check_nowhere(work, done)


def test_a_redirection_does_not_carry_it(
    work: Work,
    command: Command,
    server: OwnServer,
    provider: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work.pictures(COUNT)
    monkeypatch.setenv(VARIABLES[provider], KEY)
    with own_server() as other:
        for status in (301, 302, 303, 307, 308):
            target = f"{other.url}{ROUTES[provider]}"
            server.on(ROUTES[provider], answer({}, status, Location=target))
            done = command(*asked(work, provider, server.url))
            assert done.code == 3
            assert {each["error_class"] for each in work.failed()} == {"ProviderConnectionError"}
            assert "sends on to" in work.failed()[0]["message"]
        assert (other.connections, other.asked) == (0, [])
    check_nowhere(work, done)


def test_a_key_goes_to_the_server_that_it_is_of_only(work: Work, server: OwnServer) -> None:
    """The keys of all other providers stay at home."""
    work.pictures(1)
    server.on(ROUTES["openai"], say("text"))
    for provider in ("vllm", "max", "ollama", "lmstudio", "openai", "litellm"):
        mine = {"max": "MAX_API_KEY", "ollama": "OLLAMA_API_KEY", "lmstudio": "LM_API_TOKEN"}
        mine |= {"litellm": "LITELLM_PROXY_API_KEY", **VARIABLES}
        keys = {name: KEY for name in mine.values() if name != mine[provider]}
        done = end(work.start(*asked(work, provider, server.url), environment=keys))
        assert done.code == 0, done.err
    assert len(server.asked) == 12
    assert not any(KEY in str(each.headers) for each in server.asked)


def test_a_word_is_no_secret(
    work: Work, command: Command, server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers that want any key are given one such as this, and captions may have it."""
    work.pictures(1)
    monkeypatch.setenv("VLLM_API_KEY", "EMPTY")
    server.on(ROUTES["vllm"], say("an EMPTY room"))
    assert command(*asked(work, "vllm", server.url)).code == 0
    assert b"an EMPTY room" in work.output()
