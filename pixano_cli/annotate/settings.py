"""How a job is to be run: what all commands have in common, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from pixano_cli.errors import UsageError
from pixano_cli.processors import processors

DEFAULT_DEVICE = "cpu"
LOCAL = "local"
REMOTE_WORKERS = 64
ANSWER_TIMEOUT_S = 600.0


class RunOptions(TypedDict, total=False):
    """The keyword arguments that every command takes; see `Settings`."""

    provider: str
    url: str | None
    api_key_file: str | Path | None
    format: str | None
    batch_size: int | None
    concurrency: int | None
    rpm: int | None
    tpm: int | None
    timeout: float
    max_side: int | None
    box_format: str | None
    dialect: str | None
    time_limit: float | None
    max_cost: float | None
    prices: str | Path | None
    device: str
    recursive: bool
    store: str | Path | None
    overwrite: bool
    checksum: bool
    max_failures: str | int
    model_params: Mapping[str, Mapping[str, Any]]


class Options(RunOptions, total=False):
    """The keyword arguments of commands that find objects; see `Settings`."""

    classes: Sequence[str] | None
    threshold: float | None
    categories: str | Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What all commands have in common.

    Attributes:
        provider: Who is asked.
        url: Address of the server, for a provider that asks one; None for the provider's own.
        api_key_file: File with the server's API key; None for the provider's environment variable.
        classes: Which classes to write; None for all.
        threshold: Lowest score to write; None for the command's own.
        format: Format of the outputs, whatever their suffixes.
        batch_size: Most images a model is given at once, if it can take several; None leaves it
            to the model.
        concurrency: How many images are worked on at once; None for one a processor, or as many
            as a server keeps up with.
        rpm: Most requests a minute to a server.
        tpm: Most tokens a minute to a server.
        timeout: Seconds for the answer to one request, with all its tries.
        max_side: Longest side of an image that is sent to a server, in pixels; None sends all of
            it. Boxes and masks come back in pixels of the whole image.
        box_format: How a model that writes text writes boxes; None for what is known of the model.
        dialect: Which generation a Pixano Inference server is; None finds out.
        time_limit: Seconds after which no image is begun any more.
        max_cost: Most that a run may spend, in US dollars.
        prices: A file with what tokens cost, in place of the table that the tool has.
        device: Where a local model runs: cpu, cuda, or auto.
        recursive: Whether folders are searched with all that is below them.
        store: Folder of the inference store; None for PIXANO_STORE, else .pixano-annotate.
        overwrite: Whether to ask again for what is recorded, and replace it.
        checksum: Whether to read every file's bytes even if it looks unchanged.
        max_failures: How many files may fail: N or P%.
        categories: A file with the label set to write.
        model_params: What more is given to a local model, by its name.

    Raises:
        UsageError: If a value is out of range.
    """

    provider: str = LOCAL
    url: str | None = None
    api_key_file: str | Path | None = None
    classes: Sequence[str] | None = None
    threshold: float | None = None
    format: str | None = None
    batch_size: int | None = None
    concurrency: int | None = None
    rpm: int | None = None
    tpm: int | None = None
    timeout: float = ANSWER_TIMEOUT_S
    max_side: int | None = None
    box_format: str | None = None
    dialect: str | None = None
    time_limit: float | None = None
    max_cost: float | None = None
    prices: str | Path | None = None
    device: str = DEFAULT_DEVICE
    recursive: bool = True
    store: str | Path | None = None
    overwrite: bool = False
    checksum: bool = False
    max_failures: str | int = 0
    categories: str | Path | None = None
    model_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values."""
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UsageError(f"--threshold {self.threshold}: a number from 0 to 1 is wanted")
        for option in ("batch_size", "concurrency", "rpm", "tpm", "max_side"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise UsageError(f"--{option.replace('_', '-')} {value}: at least 1 is wanted")
        for option in ("timeout", "time_limit", "max_cost"):
            value = getattr(self, option)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"--{option.replace('_', '-')} {value}: more than 0 is wanted")
        if isinstance(self.classes, str):
            raise UsageError(f"classes={self.classes!r}: a list of names is wanted, as ['cat']")
        if self.classes is not None and not all(name.strip() for name in self.classes):
            raise UsageError("--classes: an empty name; give names separated by commas")

    @property
    def workers(self) -> int:
        """How many images are asked about at once: enough to fill a batch."""
        by_default = processors() if self.provider == LOCAL else REMOTE_WORKERS
        return max(self.concurrency or by_default, self.batch_size or 1)
