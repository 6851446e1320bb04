"""`search_embeddings.py STORE NUMBERS ROUNDS`: the nearest of a store's embeddings.

Prints JSON: the seconds of the first search, which makes or checks the file of vectors, and of
each one after it; the processor seconds of one of those; the ids that the last one found; and
where the file is.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter, process_time

from fill_embeddings import MODEL, query

from pixano_cli import inference_store as istore

LIMIT = 10


def main(folder: str, dimension: str, rounds: str) -> None:
    """Search; print the times."""
    seconds = []
    found: list[str] = []
    with istore.connect(folder) as store:
        worked = process_time()
        for index in range(int(rounds) + 1):
            request = istore.NewGetInferencesRequest(
                embedding_filters=istore.EmbeddingFilter(
                    query_embedding=query(index, int(dimension)).tolist()
                ),
                pagination=istore.Pagination(
                    sort=istore.PaginationEmbeddingSortField.EMBEDDING_DISTANCE, limit=LIMIT
                ),
            )
            started = perf_counter()
            answer = istore.filter_inferences(MODEL, request)
            seconds.append(perf_counter() - started)
            if not index:
                worked = process_time()
            found = [each.inference_id for each in answer]
        worked = process_time() - worked
        files = [str(each) for each in (store.folder / "vectors").glob("*.f32")]
    report = {"first": seconds[0], "again": seconds[1:], "found": found, "files": files}
    print(json.dumps(report | {"cpu_seconds": worked / max(1, int(rounds))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
