"""`fill_embeddings.py STORE IMAGES NUMBERS`: made-up embeddings in an inference store."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from pixano_cli.inference_store.database import open_store
from pixano_cli.inference_store.models import InferenceAction, NewRegisterModelRequest, TaskType
from pixano_cli.inference_store.records import Record, insert_records
from pixano_cli.inference_store.register import put_model

MODEL = "made-up"
PAGE = 2_000
SOURCES = 10


def query(index: int, dimension: int) -> NDArray[np.float64]:
    """Return a vector to search with; another one for each index."""
    return np.random.default_rng(1_000 + index).standard_normal(dimension)


def record(index: int, embedding: list[float]) -> Record:
    """Return an embedding as it is recorded; a tenth are of each source."""
    sha256 = f"{index:064x}"
    return Record(
        model_id=MODEL,
        inference_id=sha256,
        task_type=TaskType.IMAGE_EMBEDDING.value,
        inference_action=InferenceAction.EMBED.value,
        data_hash=sha256,
        data_size=1,
        embedding=embedding,
        data_source=f"/source/{index % SOURCES}",
        metadata={"file_name": ("string", f"{index // 1000:03}/{index:06}.jpg")},
    )


def main(folder: str, count: str, dimension: str) -> None:
    """Fill the store, a page a transaction."""
    random = np.random.default_rng(0)
    with open_store(folder) as store:
        with store.write() as connection:
            put_model(
                connection,
                NewRegisterModelRequest(
                    model_id=MODEL,
                    project_id=MODEL,
                    task_type=TaskType.IMAGE_EMBEDDING,
                    embedding_size=int(dimension),
                ),
            )
        for start in range(0, int(count), PAGE):
            page = range(start, min(start + PAGE, int(count)))
            # As models give them: float32, whatever holds them.
            vectors = random.standard_normal((len(page), int(dimension)), np.float32).tolist()
            with store.write() as connection:
                insert_records(
                    connection, [record(*each) for each in zip(page, vectors, strict=True)]
                )


if __name__ == "__main__":
    main(*sys.argv[1:])
