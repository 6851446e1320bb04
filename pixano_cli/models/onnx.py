"""The one place that makes ONNX Runtime sessions.

A session runs one call on one thread: on CPU several calls at once, each on a thread of its own,
get through more images than one call that uses every core (measured with PicoDet and decoding on
two cores: 55 images a second against 31), and the answer does not depend on the number of cores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixano_cli.errors import ModelError, UsageError

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"


class Session(Protocol):
    """A loaded network; `run` may be called from several threads at once."""

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, NDArray[np.float32]]
    ) -> list[NDArray[Any]]:
        """Return the named outputs, or all of them in order, for inputs given by name."""
        ...


def check_device(device: str) -> None:
    """Check the name of a device, without looking whether it is there.

    Raises:
        UsageError: If it is neither "cpu", "cuda", "cuda:N", "mps" nor "auto".
    """
    if device not in ("cpu", "mps", "auto") and not re.fullmatch(r"cuda(:\d+)?", device):
        raise UsageError(f"unknown device {device!r}: use cpu, cuda, cuda:N, mps or auto")


def execution_providers(
    device: str, available: Sequence[str]
) -> list[str | tuple[str, dict[str, Any]]]:
    """Say which of ONNX Runtime's execution providers to use, best first.

    Args:
        device: "cpu"; "cuda" or "cuda:N" for the GPU numbered N; "auto" for a GPU if there is one;
            "mps", which is for torch: ONNX Runtime has no such thing, and uses the CPU.
        available: What this installation of onnxruntime has.

    Returns:
        The value of `InferenceSession`'s argument `providers`.

    Raises:
        UsageError: If `device` is none of these.
        ModelError: If a GPU is asked for and onnxruntime was built without CUDA.
    """
    check_device(device)
    if device in ("cpu", "mps"):
        return [_CPU]
    if device == "auto":
        return [_CUDA, _CPU] if _CUDA in available else [_CPU]
    if _CUDA not in available:
        raise ModelError(
            f"device {device} was asked for, but onnxruntime has no CUDA here: "
            "install onnxruntime-gpu in place of onnxruntime, or use --device cpu"
        )
    return [(_CUDA, {"device_id": int(device.partition(":")[2] or 0)}), _CPU]


def open_session(
    weights: bytes, *, name: str, device: str = "cpu", memory_pattern: bool = True
) -> Session:
    """Make a session from the bytes of an ONNX model.

    Args:
        weights: Content of the .onnx file.
        name: What to call the weights in an error.
        device: As for `execution_providers`.
        memory_pattern: Whether all memory of a call is planned in one block. For a network with
            large activations that costs time and memory: MobileSAM's encoder takes 0.64 s and
            0.30 GB a call without it, 0.84 s or more and 0.57 GB with it.

    Raises:
        UsageError: If `device` is unknown.
        ModelError: If the weights are no model that ONNX Runtime can load, or a GPU was asked for
            and cannot be used.
    """
    import onnxruntime

    providers = execution_providers(device, onnxruntime.get_available_providers())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.enable_mem_pattern = memory_pattern
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(weights, options, providers=providers)
    except Exception as error:  # its exceptions have no base of their own
        raise ModelError(f"ONNX Runtime cannot load {name}: {_one_line(error)}") from error
    if device.startswith("cuda") and _CUDA not in session.get_providers():
        # ONNX Runtime falls back to the CPU by itself, which would be slow and silent.
        raise ModelError(
            f"device {device} was asked for, but CUDA cannot be used for {name}: "
            "check the driver and the CUDA and cuDNN libraries, or use --device cpu"
        )
    loaded: Session = session
    return loaded


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
