"""YouTube-VIS JSON, as the YouTube-VIS API reads it (https://youtube-vos.org/dataset/vis/).

One object a line: a video with the names of its frames, or a track with one area, box
([x, y, width, height] in pixels of the displayed frame) and mask (compressed RLE) a frame of its
video, null where the track is not in the frame. A box without a mask has null for its mask.
Beside what the format has, a video has its `name`, and an annotation its `score` (the mean over the
frames that it is in) and its `track_id`, which is unique in its video.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import orjson

from pixano_cli.annotations import AnnotatedImage, Annotation, Category
from pixano_cli.formats.atomic import replacing
from pixano_cli.formats.categories import category_row
from pixano_cli.formats.coco import area_of, bbox_of, json_lines
from pixano_cli.formats.text import portable
from pixano_cli.formats.tracks import Track, Tracks, by_video

_BUFFER = 1 << 20
_SMALL_BUFFER = 1 << 13
_PIECE = struct.Struct("<Q5dI")
"""What begins a piece in the waiting file: the frame's place in its video, x, y, width, height, the
area, and how many bytes of the mask follow."""


def write_youtube_vis(
    images: Iterable[AnnotatedImage],
    path: Path,
    categories: Sequence[Category],
    provenance: Mapping[str, Any],
) -> None:
    """Write frames as a YouTube-VIS file; equal input gives equal bytes.

    Memory grows by 8 bytes for each object in a frame of one video, and is let go at its end:
    everything else waits in nameless files on the same disk. The tracks of a video are in order of
    appearance; each has the label that it has in most frames.

    Args:
        images: Numbered frames, those of a video together; read once.
        path: The file, replaced at once when it is complete.
        categories: The whole label set.
        provenance: Becomes `info`; of values that JSON has, in the order to be written.

    Raises:
        OutputError: If the file cannot be written, or an image is no frame of a video; an earlier
            version of it is left as it was.
    """
    with (
        replacing(path) as temporary,
        temporary.open("wb", buffering=_BUFFER) as out,
        tempfile.TemporaryFile(dir=temporary.parent, buffering=_BUFFER) as waiting,
        tempfile.TemporaryFile(dir=temporary.parent, buffering=_SMALL_BUFFER) as pieces,
    ):
        out.write(
            b'{"info": ' + orjson.dumps(dict(provenance)) + b',\n"licenses": [],\n"categories": ['
        )
        out.write(json_lines(map(category_row, categories)))
        out.write(b'],\n"videos": [')
        next_id = 1
        for video_id, (name, frames) in enumerate(by_video(images, "YouTube-VIS"), start=1):
            out.write(b",\n" if video_id > 1 else b"\n")
            video = _Video(video_id, pieces)
            out.writelines(video.read(name, frames))
            for annotation_id, track in enumerate(video.tracks, start=next_id):
                waiting.write(b",\n" if annotation_id > 1 else b"\n")
                waiting.writelines(video.annotation(annotation_id, track))
            next_id += len(video.tracks)
        out.write(b'\n],\n"annotations": [')
        waiting.seek(0)
        shutil.copyfileobj(waiting, out, _BUFFER)
        out.write(b"\n]}\n")


class _Pieces(Track):
    """A track, and where the file has its pieces, in order of the frames."""

    __slots__ = ("offsets",)

    def __init__(self, number: int, track_id: int | None) -> None:
        super().__init__(number, track_id)
        self.offsets = array("Q")


class _Video:
    """A video whose annotations wait in a file until its length is known."""

    def __init__(self, number: int, file: IO[bytes]) -> None:
        file.seek(0)
        file.truncate()
        self._file = file
        self._tracks = Tracks(_Pieces)
        self._row: dict[str, Any] = {"id": number}

    @property
    def tracks(self) -> list[_Pieces]:
        return self._tracks.all

    def read(self, name: str, frames: Iterator[AnnotatedImage]) -> Iterator[bytes]:
        """Put the annotations of all frames into the file; yield the video's own row."""
        offset = length = 0
        for frame in frames:
            if not length:
                self._row |= {"width": frame.width, "height": frame.height}
                yield _open({**self._row, "name": portable(name)}) + b',"file_names":['
            yield (b"," if length else b"") + orjson.dumps(portable(frame.file_name))
            for track, annotation in self._tracks.add(frame.annotations):
                track.offsets.append(offset)
                offset += self._file.write(_piece(length, annotation))
            length += 1
        self._row["length"] = length
        yield b'],"length":%d}' % length

    def annotation(self, number: int, track: _Pieces) -> Iterator[bytes]:
        """Yield the row of a track, its pieces read one at a time."""
        row = {
            "id": number,
            "video_id": self._row["id"],
            "category_id": track.category[0],
            "iscrowd": 0,
            "width": self._row["width"],
            "height": self._row["height"],
            "length": self._row["length"],
        }
        if track.score is not None:
            row["score"] = track.score
        if track.track_id is not None:
            row["track_id"] = track.track_id
        yield _open(row) + b',"areas":['
        yield from self._cells((at, orjson.dumps(area)) for at, _, area, _ in self._read(track))
        yield b'],"bboxes":['
        yield from self._cells((at, orjson.dumps(box)) for at, box, _, _ in self._read(track))
        yield b'],"segmentations":['
        yield from self._cells(
            (at, self._file.read(size) if size else b"null") for at, _, _, size in self._read(track)
        )
        yield b"]}"

    def _read(self, track: _Pieces) -> Iterator[tuple[int, list[float], float, int]]:
        """Yield place, box, area and size of the mask, which comes next in the file."""
        for offset in track.offsets:
            self._file.seek(offset)
            at, *box, area, size = _PIECE.unpack(self._file.read(_PIECE.size))
            yield at, box, area, size

    def _cells(self, cells: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
        """Yield the inside of a list with one cell a frame, null where none is given."""
        length = self._row["length"]
        filled = 0
        for at, cell in cells:
            yield b"null," * (at - filled) + cell
            filled = at + 1
            if filled < length:
                yield b","
        yield (b"null," * (length - filled))[:-1]


def _open(row: Mapping[str, Any]) -> bytes:
    """Return a row as JSON that goes on."""
    return orjson.dumps(row)[:-1]


def _piece(at: int, annotation: Annotation) -> bytes:
    mask = b"" if annotation.mask is None else orjson.dumps(annotation.mask.to_dict())
    return _PIECE.pack(at, *bbox_of(annotation), area_of(annotation), len(mask)) + mask
