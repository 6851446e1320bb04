"""Output formats: each a function from numbered images to a file or folder, streamed, atomic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pixano_cli.errors import UsageError

if TYPE_CHECKING:
    from pixano_cli.annotations import AnnotatedImage, Category


class Writer(Protocol):
    """Writes images, numbered by `annotations.number` and read once, in one format.

    `path` is a file, or the folder of a format that makes many files.

    Raises:
        OutputError: If it cannot be written; an earlier version of it is left as it was.
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


def _youtube_vis(
    images: Iterable[AnnotatedImage],
    path: Path,
    categories: Sequence[Category],
    provenance: Mapping[str, Any],
) -> None:
    from pixano_cli.formats.youtube_vis import write_youtube_vis

    write_youtube_vis(images, path, categories, provenance)


def _davis(
    images: Iterable[AnnotatedImage],
    path: Path,
    categories: Sequence[Category],
    provenance: Mapping[str, Any],
) -> None:
    from pixano_cli.formats.davis import write_davis

    write_davis(images, path, categories, provenance)


FORMATS: Mapping[str, Writer] = {
    "coco": _coco,
    "parquet": _parquet,
    "youtube-vis": _youtube_vis,
    "davis": _davis,
}
"""The writers by the name that `--format` takes; each imports what it needs when it is called."""

IMAGE_FORMATS = ("coco", "parquet")
"""The formats that can hold images; all can hold the frames of videos."""

SUFFIXES: Mapping[str, str] = {".json": "coco", ".parquet": "parquet"}
"""The format's name by the output's suffix."""

FOLDERS: Mapping[str, Sequence[str]] = {"davis": ("tracks.json", "Annotations", "ImageSets")}
"""Of the formats that make folders, what is in them; the first tells that they are theirs."""


def format_of(path: Path, override: str | None) -> str:
    """Return the name of the format to write images to `path` in.

    Args:
        path: The output; its suffix, in any case, chooses the format.
        override: The name of a format that is to be used whatever the suffix; None for none.

    Raises:
        UsageError: If neither names a known format, or it cannot hold images.
    """
    return _chosen(path, override, IMAGE_FORMATS)


def video_format_of(path: Path, override: str | None) -> str:
    """Return the name of the format to write frames of videos to `path` in.

    Args:
        path: The output; its suffix, in any case, chooses the format, of those that have one.
        override: The name of a format that is to be used whatever the suffix; None for none.

    Raises:
        UsageError: If neither names a known format, or a folder is to have a file's name.
    """
    name = _chosen(path, override, tuple(FORMATS))
    if name in FOLDERS and path.suffix.lower() in SUFFIXES:
        raise UsageError(
            f"output {path.name!r}: {name} makes a folder of files: name it without {path.suffix}"
        )
    return name


def _chosen(path: Path, override: str | None, known: Sequence[str]) -> str:
    if override is not None:
        if override in known:
            return override
        known_are = f"known are {', '.join(known)}"
        if override in FORMATS:
            raise UsageError(f"format {override!r} holds videos only: for images {known_are}")
        raise UsageError(f"unknown format {override!r}: {known_are}")
    name = SUFFIXES.get(path.suffix.lower())
    if name is None:
        suffixes = ", ".join(f"{suffix} ({name})" for suffix, name in SUFFIXES.items())
        others = [each for each in known if each not in SUFFIXES.values()]
        raise UsageError(
            f"unknown output format {path.name!r}: name it with one of {suffixes}, or say --format"
            + (f", which also has {' and '.join(others)}" if others else "")
        )
    return name


def check_output(path: Path, format_name: str) -> None:
    """Try whether `path` can be written in a format, and leave nothing behind.

    Raises:
        UsageError: If a file is to be a folder, or the other way round, or if what is there may not
            be replaced, or nothing can be made beside it.
    """
    from pixano_cli.formats.atomic import check_folder_writable, check_writable

    entries = FOLDERS.get(format_name)
    if entries is None:
        check_writable(path)
    else:
        check_folder_writable(path, entries)


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
        path: The file or folder, replaced at once when it is complete; the folder that it is in is
            made where missing.
        categories: The whole label set, also the labels that no annotation has.
        provenance: What made the annotations, of values that JSON has.

    Raises:
        UsageError: If the format is unknown.
        OutputError: If it cannot be written; an earlier version of it is left as it was.
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
