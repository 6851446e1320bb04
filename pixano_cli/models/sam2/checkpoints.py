"""Which weights and which network a SAM 2.1 model is made of; nothing here loads torch.

The checkpoints are those that Meta published in September 2024 with "SAM 2: Segment Anything in
Images and Videos" (Ravi et al., 2024), as they are on Hugging Face.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from pixano_cli.errors import ModelError, UsageError

INSTALL: Final = (
    "pip install torch, then SAM2_BUILD_CUDA=0 pip install --no-build-isolation "
    "'pixano-annotate[sam2]' (torch and sam2: about 1 GB on a CPU, more with CUDA)"
)
"""What to do where torch or sam2 is missing; sam2 is built from source and needs torch for it."""

_FILE_PARAMETERS = ("checkpoint", "path", "config", "overrides")
# How and where the network runs, not what it answers.
_RUN_PARAMETERS = ("device", "compile")
_SUFFIXES = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint as Meta published it.

    Attributes:
        name: What the model is called here.
        config: Its network: a YAML file inside the package sam2.
        repository: Where it is on Hugging Face.
        file: The file there.
        sha256: Hex digest of that file.
        size: Its size in bytes.
    """

    name: str
    config: str
    repository: str
    file: str
    sha256: str
    size: int


def _published(name: str, size: str, config: str, sha256: str, byte_count: int) -> Published:
    return Published(
        name=name,
        config=f"configs/sam2.1/sam2.1_hiera_{config}.yaml",
        repository=f"facebook/sam2.1-hiera-{size.replace('_', '-')}",
        file=f"sam2.1_hiera_{size}.pt",
        sha256=sha256,
        size=byte_count,
    )


TINY: Final = _published(
    "sam2.1-tiny",
    "tiny",
    "t",
    "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
    156_008_466,
)
SMALL: Final = _published(
    "sam2.1-small",
    "small",
    "s",
    "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
    184_416_285,
)
BASE_PLUS: Final = _published(
    "sam2.1-base-plus",
    "base_plus",
    "b+",
    "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
    323_606_802,
)
LARGE: Final = _published(
    "sam2.1-large",
    "large",
    "l",
    "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
    898_083_611,
)
PUBLISHED: Final[Mapping[str, Published]] = {
    each.name: each for each in (TINY, SMALL, BASE_PLUS, LARGE)
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Which weights, in which network.

    Attributes:
        published: The published checkpoint that stands for whatever is not given.
        path: A file of weights (.pt, .pth or .safetensors) in place of the published one.
        config: A YAML file, or the name of one inside the package sam2, in place of the
            published network.
        overrides: Changes to the network's configuration, "model.image_size=512".
    """

    published: Published
    path: Path | None = None
    config: str | None = None
    overrides: tuple[str, ...] = ()

    @classmethod
    def of(cls, published: Published, parameters: Mapping[str, Any]) -> Checkpoint:
        """Read the parameters `checkpoint` (or `path`), `config` and `overrides` of a model.

        Raises:
            UsageError: If a parameter is unknown or cannot be used.
        """
        unknown = sorted(set(parameters) - {*_FILE_PARAMETERS, *_RUN_PARAMETERS})
        if unknown:
            known = ", ".join((*_FILE_PARAMETERS, *_RUN_PARAMETERS))
            raise UsageError(f"{published.name} has no parameter {unknown[0]!r}: it has {known}")
        path = parameters.get("checkpoint") or parameters.get("path")
        overrides = parameters.get("overrides") or ()
        if isinstance(overrides, str):
            overrides = (overrides,)
        for override in overrides:
            if not isinstance(override, str) or not re.match(r"\+{0,2}[\w.]+=", override):
                raise UsageError(f"override {override!r} of {published.name} is not KEY=VALUE")
        return cls(
            published=published,
            path=Path(path) if path else None,
            config=str(parameters["config"]) if parameters.get("config") else None,
            overrides=tuple(override.lstrip("+") for override in overrides),
        )

    @property
    def name(self) -> str:
        """What to call it in an error."""
        return str(self.path) if self.path else self.published.name

    @property
    def digest(self) -> str:
        """Hex digest of the weights and of the network's configuration.

        Of a published checkpoint in its own network it is the sha256 of the published file, known
        without fetching it. Of one's own file the file is read.

        Raises:
            ModelError: If the weights or the configuration cannot be read.
        """
        weights = self.published.sha256 if self.path is None else _sha256(self.path)
        if self.path is None and self.config is None and not self.overrides:
            return weights
        subject = [weights, self.config_text(), list(self.overrides)]
        return hashlib.sha256(json.dumps(subject).encode()).hexdigest()

    def config_text(self) -> str:
        """Return the YAML text of the network's configuration.

        Raises:
            ModelError: If it cannot be read.
        """
        name = self.config or self.published.config
        path = Path(name)
        if self.config is None or not path.is_file():
            spec = find_spec("sam2")
            if spec is None or not spec.submodule_search_locations:
                raise ModelError(f"{self.published.name} needs the package sam2: {INSTALL}")
            path = Path(spec.submodule_search_locations[0], name)
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            if self.config is not None and isinstance(error, FileNotFoundError):
                raise ModelError(
                    f"there is no configuration {name}: give a YAML file, or the name of one of "
                    f"sam2's own, for example {self.published.config}"
                ) from error
            raise ModelError(f"configuration {name} cannot be read: {error}") from error

    def weights_file(self) -> Path:
        """Return the file of weights, fetching a published one that is not in the cache.

        Raises:
            ModelError: If it is not there, cannot be fetched, or is not what was published.
        """
        if self.path is not None:
            if not self.path.is_file():
                raise ModelError(f"there is no checkpoint {self.path}: check --checkpoint")
            if self.path.suffix.lower() not in _SUFFIXES:
                raise ModelError(f"checkpoint {self.path} is neither .pt nor .pth nor .safetensors")
            return self.path
        file = _fetch(self.published)
        if _sha256(file) != self.published.sha256:
            raise ModelError(
                f"the weights of {self.published.name} in {file} are not those that were published "
                "(sha256 differs): delete that file, or give your own with --checkpoint"
            )
        return file


def _fetch(published: Published) -> Path:
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
    except ImportError as error:
        raise ModelError(
            f"{published.name} needs the package huggingface_hub to be fetched: {INSTALL}"
        ) from error
    # Looked for here first: the digest says whether it is the one, no server has to.
    cached = try_to_load_from_cache(published.repository, published.file)
    if isinstance(cached, str):
        return Path(cached)
    try:
        return Path(hf_hub_download(published.repository, published.file))
    except Exception as error:  # it raises errors of its own, of its HTTP client and of the disk
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(
            f"the weights of {published.name} ({published.size / 1e6:.0f} MB) cannot be fetched "
            f"from Hugging Face ({reason}): go online once, or get {published.file} of "
            f"{published.repository} yourself and give it with --checkpoint"
        ) from error


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise ModelError(f"there is no checkpoint {path}: check --checkpoint") from error
    except OSError as error:
        raise ModelError(f"checkpoint {path} cannot be read: {error}") from error
