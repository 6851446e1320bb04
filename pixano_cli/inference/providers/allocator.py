"""Keeping the memory of one image for the next.

Every image takes some blocks of megabytes and gives them back: its pixels, the network's input.
The GNU C library would return each to the kernel, which clears its pages one by one when they are
taken again: measured, five hundred pages an image, and one twentieth of all processor time.
"""

from __future__ import annotations

import ctypes
from functools import cache

# Source: malloc.h of the GNU C library; mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK_KEPT = 32 << 20
_MOST_KEPT = 64 << 20


@cache
def keep_blocks() -> None:
    """Let the C library keep what is given back, up to some megabytes a thread.

    It is the whole process that this is set for. Other C libraries have no such setting.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    set_option(_MMAP_THRESHOLD, _LARGEST_BLOCK_KEPT)
    set_option(_TRIM_THRESHOLD, _MOST_KEPT)
