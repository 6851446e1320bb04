"""What a server's refusal, or its silence, means to a user: one line each, with what to do."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import orjson

from pixano_cli.inference.errors import (
    InferenceError,
    InferenceTimeoutError,
    InvalidRequestError,
    ProviderConnectionError,
)
from pixano_cli.inference.providers.keys import ApiKey

BUSY = frozenset({429, 503, 504, 529})
"""Answers of a server that has too much to do: too many requests, unavailable, late, overloaded."""

AWAY = frozenset({502, 503, 504})
"""Answers of a gateway whose server is away."""

PASSING = BUSY | AWAY
"""Answers that ask for patience."""

_LONGEST_SAYING = 300


def refusal(
    where: str,
    status: int,
    said: str,
    *,
    key: ApiKey | None,
    variable: str,
    sent: int,
    asked: float | None = None,
) -> InferenceError:
    """Return the error for an answer that is none.

    Args:
        where: Address of what was asked.
        status: The HTTP status.
        said: What the server says, as `saying` gives it.
        key: The key that was sent.
        variable: Environment variable that a key is looked for in.
        sent: Bytes of the request.
        asked: Seconds that the server asks to wait, if it does.
    """
    told = f" ({status}: {said})" if said else f" ({status})"
    if status in (401, 403):
        if key is None:
            return InvalidRequestError(
                f"{where} wants an API key{told}: set {variable}, or name a file with the key"
            )
        return InvalidRequestError(f"{where} refuses the API key of {key.source}{told}: check it")
    if status in (404, 405):
        return InvalidRequestError(f"{where} is not there{told}: check the URL")
    if status == 413:
        return InvalidRequestError(
            f"{where} takes no {sent / 1e6:.1f} MB at once{told}: send a smaller image, by a "
            "largest side"
        )
    if status in (408, 504):
        return InferenceTimeoutError(f"{where} took too long for itself{told}: try again later")
    if status in BUSY:
        wish = f", and asks to wait for {asked:,.0f} s" if asked else ""
        return InferenceError(
            f"{where} is too busy{told}{wish}: lower the concurrency, set a limit of requests a "
            "minute, or try again later"
        )
    if 400 <= status < 500:
        return InvalidRequestError(f"{where} refuses the request{told}")
    if status == 502:
        return InferenceError(
            f"{where} is a gateway whose server is away{told}: is that running? try again later"
        )
    if status >= 500:
        return InferenceError(f"{where} failed{told}: its own log may say why")
    return InferenceError(f"{where} gives an answer that is not understood{told}: check the URL")


def redirection(where: str, target: str) -> InferenceError:
    """Return the error for an answer that sends on to another address."""
    return ProviderConnectionError(
        f"{where} sends on to {target}, where nothing was sent: "
        "if that is right, give its address as the URL"
    )


def saying(body: bytes, key: ApiKey | None) -> str:
    """Return what a server says about its refusal, in one short line.

    Understands the forms of Pixano Inference, FastAPI, OpenAI and the many like them; of anything
    else, text is taken as it is and a web page is passed over. Without `key`, should it be there,
    and without what could move a terminal's cursor.
    """
    try:
        text = _message(orjson.loads(body))
    except orjson.JSONDecodeError:
        text = body.decode("utf-8", "replace")
        if text.lstrip()[:1] in ("<", "{", "["):
            text = ""
    return shown(text, key)


def shown(text: str, key: ApiKey | None) -> str:
    """Return text from outside as one short line of visible characters, without the key."""
    if key is not None:
        text = key.hide_in(text)
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= _LONGEST_SAYING else line[: _LONGEST_SAYING - 3] + "..."


def _message(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(filter(None, map(_message, value[:3])))
    if isinstance(value, dict):
        place = ".".join(map(str, value["loc"])) if isinstance(value.get("loc"), list) else ""
        for name in ("error", "message", "detail", "msg"):
            if text := _message(value.get(name)):
                return f"{place}: {text}" if place else text
    return ""


def unreachable(url: str, error: Exception) -> ProviderConnectionError:
    """Return the error for a server that no answer came from."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ProviderConnectionError(
                f"{url} cannot be trusted, its certificate is not valid "
                f"({cause.verify_message or 'verification failed'}): for an authority of your own "
                "set SSL_CERT_FILE to its certificate"
            )
        if isinstance(cause, ssl.SSLError):
            return ProviderConnectionError(
                f"{url} does not speak TLS as it should ({reason_of(error)}): "
                "is it http:// rather than https://?"
            )
    return ProviderConnectionError(
        f"{url} cannot be reached ({reason_of(error)}): is the server running, and the URL right?"
    )


def is_about_trust(error: Exception) -> bool:
    """Return whether no connection came about for a reason that does not pass."""
    return any(isinstance(cause, ssl.SSLError) for cause in _causes(error))


def is_unknown_host(error: Exception) -> bool:
    """Return whether no host of the name is known, rather than that nobody could be asked."""
    return any(
        isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME
        for cause in _causes(error)
    )


def reason_of(error: Exception) -> str:
    """Return why a connection failed: what the operating system says, if it says anything."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            # Only of these does the number not say what happened.
            told = isinstance(cause, (ssl.SSLError, socket.gaierror)) or not cause.errno
            text = cause.strerror if told else os.strerror(cause.errno or 0)
            text = re.sub(r"^\[[^]]*\] ?|\s*\(_ssl\.c:\d+\)$", "", text)
            return text[:1].lower() + text[1:]
    return str(error).rstrip(".") or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the innermost cause of an error first, then what came of it."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _causes(each)
    inner = error.__cause__ or error.__context__
    if inner is not None:
        yield from _causes(inner)
    yield error
