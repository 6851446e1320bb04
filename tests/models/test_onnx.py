"""Sessions: one thread a call, and a device that is what was asked for."""

import re
from pathlib import Path

import onnxruntime
import pytest

from pixano_cli.errors import ModelError, UsageError
from pixano_cli.models.onnx import check_device, execution_providers, open_session
from pixano_cli.models.picodet import PicoDet

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


def weights() -> bytes:
    return PicoDet.card.weights[0].read()


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("cpu", [CUDA, CPU], [CPU]),
        ("cpu", [CPU], [CPU]),
        ("auto", [CPU], [CPU]),
        ("auto", [CUDA, CPU], [CUDA, CPU]),
        ("mps", [CUDA, CPU], [CPU]),
        ("cuda", [CUDA, CPU], [(CUDA, {"device_id": 0}), CPU]),
        ("cuda:3", [CUDA, CPU], [(CUDA, {"device_id": 3}), CPU]),
    ],
)
def test_a_device_means_execution_providers(
    device: str, available: list[str], expected: list[object]
) -> None:
    assert execution_providers(device, available) == expected


@pytest.mark.parametrize("device", ["gpu", "CUDA", "cuda:", "cuda:x", ""])
def test_an_unknown_device_is_a_mistake_of_the_user(device: str) -> None:
    with pytest.raises(UsageError, match=r"use cpu, cuda, cuda:N, mps or auto"):
        check_device(device)
    with pytest.raises(UsageError, match=re.escape(repr(device))):
        execution_providers(device, [CUDA, CPU])


def test_cuda_without_cuda_in_onnxruntime_says_what_to_install() -> None:
    with pytest.raises(ModelError, match="onnxruntime-gpu"):
        execution_providers("cuda", [CPU])


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="CUDA can be used here")
def test_cuda_that_cannot_be_used_is_no_silent_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])

    with pytest.raises(ModelError, match="picodet") as raised:
        open_session(weights(), name="picodet", device="cuda")

    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07" * 50])
def test_bytes_that_are_no_model_are_refused_in_one_line(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"^ONNX Runtime cannot load some\.onnx: ") as raised:
        open_session(content, name="some.onnx")

    assert "\n" not in str(raised.value)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux does")
def test_a_session_starts_no_threads() -> None:
    open_session(weights(), name="picodet")  # what ONNX Runtime starts once a process is there now
    before = len(list(Path("/proc/self/task").iterdir()))

    session = open_session(weights(), name="picodet")

    assert session
    assert len(list(Path("/proc/self/task").iterdir())) == before
