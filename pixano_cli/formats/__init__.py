"""Output formats: each one a function from numbered images to a file, streamed and atomic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pixano_cli.errors import UsageError

if TYPE_CHECKING:
    from pixano_cli.annotations import AnnotatedImage, Category


class Writer(Protocol):
    """Writes images, numbered by `annotations.number` and read once, to a file of one format.

    Raises:
        OutputError: If the file cannot be written; an earlier version of it is left as it was.
    """

    def __call__(
        self,
        images: Iterable[AnnotatedImage],
        path: Path,
        categories: Sequence[Category],
        provenance: Mapping[str, Any],
    ) -> None: ...


def _coco(
    images: Iterable[AnnotatedImage],
    path: Path,
    categories: Sequence[Category],
    provenance: Mapping[str, Any],
) -> None:
    from pixano_cli.formats.coco import write_coco

    write_coco(images, path, categories, provenance)


def _parquet(
    images: Iterable[AnnotatedImage],
    path: Path,
    categories: Sequence[Category],
    provenance: Mapping[str, Any],
) -> None:
    from pixano_cli.formats.parquet import write_parquet

    write_parquet(images, path, categories, provenance)


FORMATS: Mapping[str, Writer] = {"coco": _coco, "parquet": _parquet}
"""The writers by the name that `--format` takes; each imports what it needs when it is called."""

SUFFIXES: Mapping[str, str] = {".json": "coco", ".parquet": "parquet"}
"""The format's name by the output's suffix."""


def format_of(path: Path, override: str | None) -> str:
    """Return the name of the format to write `path` in.

    Args:
        path: The output; its suffix, in any case, chooses the format.
        override: The name of a format that is to be used whatever the suffix; None for none.

    Raises:
        UsageError: If neither names a known format.
    """
    if override is not None:
        if override not in FORMATS:
            raise UsageError(f"unknown format {override!r}: known are {', '.join(FORMATS)}")
        return override
    name = SUFFIXES.get(path.suffix.lower())
    if name is None:
        known = ", ".join(f"{suffix} ({name})" for suffix, name in SUFFIXES.items())
        raise UsageError(
            f"unknown output format {path.name!r}: name it with one of {known}, or say --format"
        )
    return name


def embedding_format_of(path: Path, override: str | None) -> str:
    """Return the name of the format to write embeddings to `path` in, which is Parquet.

    Args:
        path: The output; its suffix, in any case, must be .parquet.
        override: The name of a format that is to be used whatever the suffix; None for none.

    Raises:
        UsageError: If another format is named.
    """
    if override not in (None, "parquet"):
        raise UsageError(f"format {override!r}: embeddings are written as .parquet only")
    if override is None and path.suffix.lower() != ".parquet":
        raise UsageError(
            f"output {path.name!r}: embeddings are written as .parquet: name it so, "
            "or say --format parquet"
        )
    return "parquet"


def write(
    format_name: str,
    images: Iterable[AnnotatedImage],
    path: Path,
    categories: Sequence[Category],
    provenance: Mapping[str, Any],
) -> None:
    """Write `images` to `path` in the format of that name.

    Args:
        format_name: A name that `format_of` returned.
        images: Images numbered by `annotations.number`, in the order of the output; read once.
        path: The file, replaced at once when it is complete; its folder is made where missing.
        categories: The whole label set, also the labels that no annotation has.
        provenance: What made the annotations, of values that JSON has.

    Raises:
        UsageError: If the format is unknown.
        OutputError: If the file cannot be written; an earlier version of it is left as it was.
    """
    if format_name not in FORMATS:
        raise UsageError(f"unknown format {format_name!r}: known are {', '.join(FORMATS)}")
    FORMATS[format_name](images, path, categories, provenance)


def write_captions(
    format_name: str, images: Iterable[AnnotatedImage], path: Path, provenance: Mapping[str, Any]
) -> None:
    """Write the captions of `images` to `path`: COCO captions, or Parquet; see `write`."""
    if format_name == "coco":
        from pixano_cli.formats.coco_captions import write_coco_captions

        write_coco_captions(images, path, provenance)
    else:
        write(format_name, images, path, (), provenance)
