"""`multiply_embeddings.py FILE NUMBERS ROUNDS`: what numpy alone takes for the nearest.

FILE is a store's file of vectors; it is mapped into memory and multiplied as it lies there.
Prints JSON: the seconds of each round after the first, and the ids that the last one found.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter

import numpy as np
from fill_embeddings import query
from search_embeddings import LIMIT

HEADER = 64


def main(path: str, dimension: str, rounds: str) -> None:
    """Multiply; print the times."""
    numbers = int(dimension)
    # The vector, and 32 bytes about it; a vector is filled up to whole words.
    words = -(-numbers // 2) * 2 + 8
    vectors = np.memmap(path, np.float32, "r", HEADER).reshape(-1, words)[:, :numbers]
    seconds = []
    nearest: list[int] = []
    for index in range(int(rounds) + 1):
        asked = query(index, numbers)
        started = perf_counter()
        products = vectors @ (asked / np.linalg.norm(asked)).astype(np.float32)
        most = min(LIMIT, len(products) - 1)
        some = np.argpartition(-products, most)[:LIMIT]
        nearest = some[np.argsort(-products[some])].tolist()
        seconds.append(perf_counter() - started)
    found = [f"{each:064x}" for each in nearest]
    print(json.dumps({"again": seconds[1:], "found": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
