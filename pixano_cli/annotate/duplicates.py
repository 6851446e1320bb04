"""Finding images of which one is enough: copies, and those that a model finds all but the same."""

from __future__ import annotations

from dataclasses import dataclass

from pixano_cli.annotate.selection import Filters, read_filters
from pixano_cli.annotate.similar import model_with_vectors
from pixano_cli.errors import MediaReadError, UsageError
from pixano_cli.inference_store.connection import current_store
from pixano_cli.inference_store.duplicates import Duplicates, find_duplicates
from pixano_cli.media import flight

DEFAULT_THRESHOLD = 0.06
"""The distance up to which PPLCNetV2 sees the same photograph.

Measured on the four of sample_data: saved as JPEG of quality 75 to 95, made smaller by up to a
quarter, or brighter or darker by up to a fifth, they stay within 0.052 of what they were; of half
the size within 0.068; cut to nine tenths within 0.065. Two of them are never nearer than 0.57.
"""


@dataclass(frozen=True, slots=True)
class Found:
    """Groups of images, the model whose vectors tell, and the threshold."""

    model_id: str
    threshold: float
    duplicates: Duplicates


def duplicates(*, filters: Filters | None = None, threshold: float = DEFAULT_THRESHOLD) -> Found:
    """Group the images of the connected store that are the same or nearly so.

    A file that was removed from a folder that is still there is left out.

    Args:
        filters: Which images; the model too, where several of the store's have vectors of images.
        threshold: Cosine distance up to which two are the same, from 0 to under 1; 0 is for
            copies, and images that the model cannot tell apart.

    Raises:
        UsageError: If the threshold is out of range, it is not clear which model is meant, or a
            filter cannot be read.
        StoreError: If the store cannot be read.
    """
    if not 0 <= threshold < 1:
        raise UsageError(f"--threshold {threshold}: a distance from 0 to under 1 is wanted")
    filters = filters or Filters()
    store = current_store()
    model = model_with_vectors(store, filters)
    asked = read_filters(filters, store)
    found = find_duplicates(store, model, threshold, asked, is_gone=_is_gone)
    return Found(model, threshold, found)


def _is_gone(url: str) -> bool:
    try:
        path = flight.path_of(url)
        return not path.exists() and path.parent.exists()
    except (MediaReadError, OSError):
        return False
