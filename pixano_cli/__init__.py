"""pixano-annotate: batch pre-annotation of images and videos from the command line and from Python.

Example:
    ```python
    import pixano_cli

    summary = pixano_cli.detect(["photos/"], ["boxes.json"], threshold=0.3)
    ```
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixano_cli.annotate.commands import caption, detect, embed, segment
    from pixano_cli.annotate.export import export
    from pixano_cli.annotate.summary import Summary
    from pixano_cli.annotate.videos.command import segment_video

__version__ = "0.1.0"
__all__ = [
    "Summary",
    "__version__",
    "caption",
    "detect",
    "embed",
    "export",
    "segment",
    "segment_video",
]

_HOMES = {
    "Summary": "pixano_cli.annotate.summary",
    "caption": "pixano_cli.annotate.commands",
    "detect": "pixano_cli.annotate.commands",
    "segment": "pixano_cli.annotate.commands",
    "segment_video": "pixano_cli.annotate.videos.command",
    "embed": "pixano_cli.annotate.commands",
    "export": "pixano_cli.annotate.export",
}


def __getattr__(name: str) -> Any:
    """Import a command when it is first used, so that importing the package stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
