"""The commands with a remote provider, from outside: what they need, and where a key never is."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from .own_server import answer, own_server

SAMPLES = Path(__file__).parents[2] / "sample_data"
KEY = "sk-planted-0123456789abcdef"
VECTOR = answer({"data": [{"embedding": [0.25, 0.5, 1.0]}]})

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def embed(tmp_path: Path) -> Callable[..., Done]:
    """Run `embed` on the samples in a process of its own, with the key in its environment."""

    def run(*options: str) -> Done:
        command = [sys.executable, "-m", "pixano_cli", "embed", str(SAMPLES), "-o", "v.parquet"]
        command += ["--provider", "openai", "--model", "clip", "--store", "store", *options]
        environment = {**os.environ, "OPENAI_API_KEY": KEY}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert KEY not in done.stdout + done.stderr
        for file in tmp_path.rglob("*"):
            assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
        return done

    return run


def test_vectors_of_a_server_are_asked_for_once(embed: Callable[..., Done], tmp_path: Path) -> None:
    with own_server() as own:
        own.on("/v1/models", answer({"data": [{"id": "clip"}]}))
        own.on("/v1/embeddings", answer({}, 429, Retry_After="0"), VECTOR)
        done = embed("--url", own.url)
        assert done.returncode == 0, done.stderr
        rows = pq.read_table(tmp_path / "v.parquet").to_pylist()
        assert [row["embedding"] for row in rows] == [[0.25, 0.5, 1.0]] * 4
        assert own.paths().count("/v1/embeddings") == 5
        assert own.asked[-1].headers["Authorization"] == f"Bearer {KEY}"
        assert embed("--url", own.url).returncode == 0
        assert own.paths().count("/v1/embeddings") == 5


def test_a_refused_key_is_said_and_not_shown(embed: Callable[..., Done]) -> None:
    with own_server() as own:
        own.on("/v1/models", answer({"data": [{"id": "clip"}]}))
        own.on("/v1/embeddings", answer({"error": {"message": f"bad key {KEY}"}}, 401))
        done = embed("--url", own.url, "--debug", "--verbose", "--json")
    assert done.returncode == 3
    assert "refuses the API key of the environment variable OPENAI_API_KEY (401: bad" in done.stderr


def test_a_key_of_a_file_comes_first(embed: Callable[..., Done], tmp_path: Path) -> None:
    file = tmp_path.parent / f"{tmp_path.name}.key"
    file.write_text("other-key\n")
    with own_server() as own:
        own.on("/v1/models", answer({"data": [{"id": "clip"}]}))
        own.on("/v1/embeddings", VECTOR)
        assert embed("--url", own.url, "--api-key-file", str(file)).returncode == 0
        assert {each.headers["Authorization"] for each in own.asked} == {"Bearer other-key"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--url", "http://me:secret@h"], "leave out user, password"),
        (["--url", "http://h", "--api-key-file", "none"], "cannot read the API key file 'none'"),
        (["--provider", "local", "--url", "http://h"], "cannot take these options"),
    ],
)
def test_what_cannot_be(embed: Callable[..., Done], options: list[str], told: str) -> None:
    done = embed(*options)
    assert done.returncode == 2
    assert told in done.stderr
    assert "secret" not in done.stderr
