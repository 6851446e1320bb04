"""Embeddings of images seen lately, so that another prompt need not encode an image again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Embedding(NamedTuple):
    """What a segmenter made of an image."""

    image_embedding: NDArray[np.float32]
    high_resolution_features: list[NDArray[np.float32]] | None = None


class RecentEmbeddings:
    """At most `limit` embeddings, the one that was used longest ago giving way.

    The key is (digest of the model, sha256 of the image's bytes): a file that changed, or a model
    with other weights under the same name, finds nothing. Safe to use from several threads.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[tuple[str, str], Embedding] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str]) -> Embedding | None:
        """Return what is held under `key`, None if nothing is."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: tuple[str, str], embedding: Embedding) -> None:
        """Hold `embedding` under `key`, in place of what was."""
        with self._lock:
            self._held[key] = embedding
            self._held.move_to_end(key)
            while len(self._held) > self._limit:
                self._held.popitem(last=False)

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._held.clear()
