"""Open a video file in libav, or say why it is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av

from pixano_cli.errors import VideoError
from pixano_cli.media.identity import is_text, sniff

_DEMUXERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,ivf,mxf,gxf,dv,nut,rm,wtv,"
    "h261,h263,h264,hevc,vvc,m4v,av1,obu,vc1,mjpeg,yuv4mpegpipe,3g2,3gp,swf,nsv,pva,dhav,amv,"
    "wav,flac,mp3,aiff"
)
"""Containers that are read: no images, no text, and no playlists, which name other files.

Those of sound are, to say that it is sound."""

_GENERATE_PTS = 0x0001
_STILL_BRANDS = (b"heic", b"heix", b"mif1")
_FORMATS = "a video such as mp4, mkv, mov, avi or webm"


def open_container(path: Path, head: bytes) -> Any:
    """Return an open `av.container.InputContainer`.

    Args:
        path: An absolute path, so that no part of it is taken for a protocol.
        head: The first bytes of the file.

    Raises:
        VideoError: If it is no video file, or its header is damaged.
    """
    kind = sniff(head)
    if not head:
        raise VideoError("the file is empty")
    if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS:
        kind = "HEIC"
    is_motion_jpeg = kind == "JPEG" and path.suffix.lower() in (".mjpeg", ".mjpg")
    if kind is not None and not is_motion_jpeg:
        raise VideoError(f"a {kind} image, not {_FORMATS}: use a command for images")
    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"}
    try:
        container = av.open(str(path), "r", container_options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(_reason(error, head)) from error
    # As ffprobe does not: time stamps are to be the container's own.
    container.flags &= ~_GENERATE_PTS
    return container


def _reason(error: Exception, head: bytes) -> str:
    if is_text(head):
        return f"text, not {_FORMATS}"
    if isinstance(error, EOFError):
        return "no frames in it: it ends before the first one"
    if head[4:8] in (b"ftyp", b"wide", b"mdat", b"skip", b"free"):
        return (
            "its index (the moov box) is missing or damaged: it was cut off, or is still being "
            "written: copy it again"
        )
    if head.startswith((b"\x1aE\xdf\xa3", b"RIFF")):
        return "its header is damaged: copy it again"
    return f"unknown content, not {_FORMATS}"


def video_stream(container: Any) -> Any:
    """Return the stream to show: libav's choice, but no cover picture.

    Raises:
        VideoError: If there is none, or no decoder for it.
    """
    streams = [each for each in container.streams.video if not _is_cover(each)]
    if not streams:
        if container.streams.audio:
            raise VideoError("sound without a picture: there is no video stream in it")
        raise VideoError("no video stream in it")
    best = container.streams.best("video")
    stream = next((each for each in streams if best and each.index == best.index), streams[0])
    if stream.codec_context is None:
        raise VideoError("its codec is not supported: convert it, for instance to H.264")
    return stream


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)
