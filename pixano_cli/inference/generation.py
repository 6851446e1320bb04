"""What this project adds to a request for text: a seed, and the shape that the answer must have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pixano_cli.inference.types import TextImageConditionalGenerationInput

__all__ = ["GenerationInput"]


@dataclass
class GenerationInput(TextImageConditionalGenerationInput):
    """Input for text-image conditional generation; providers take the published class as well.

    Attributes:
        seed: Number to draw by, so that a server that can gives the same answer again; None leaves
            it to the server.
        schema: JSON schema that the answer is to fit: the generated text is then JSON, checked.
            See `chat_schema` for the keywords that may occur. None asks for any text.
    """

    seed: int | None = None
    schema: Mapping[str, Any] | None = None
