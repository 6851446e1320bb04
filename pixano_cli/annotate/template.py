"""Prompts with names in braces, which are filled in for each image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from pixano_cli.errors import UsageError
from pixano_cli.formats.text import shown

NAMES = ("file_name", "width", "height", "labels")
"""What a prompt may name."""


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt, written as Python's format strings are: `{{` stands for a brace.

    Attributes:
        text: The prompt as the user wrote it.
        names: What it names.
    """

    text: str
    names: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Read a prompt.

        Raises:
            UsageError: If it is empty, not well formed, or names something else than `NAMES`.
        """
        if not text.strip():
            raise UsageError("the prompt is empty")
        try:
            parts = list(Formatter().parse(text))
        except ValueError as error:
            raise UsageError(f"the prompt has an odd brace ({error}): write {{{{ for one") from None
        names = set()
        for _, name, form, conversion in parts:
            if name is None:
                continue
            if name not in NAMES or form or conversion:
                known = ", ".join(f"{{{each}}}" for each in NAMES)
                raise UsageError(
                    f"the prompt names {{{name}}}, and can name {known} only: write {{{{ for a "
                    "brace that is one"
                )
            names.add(name)
        return cls(text, frozenset(names))

    def fill_in(self, values: Mapping[str, Any]) -> str:
        """Return the prompt for one image; `values` has all that it names."""
        return self.text.format_map(values)


def read_prompt(path: Path) -> str:
    """Read a prompt from a file, without the end of its last line.

    Raises:
        UsageError: If it cannot be read, or is not text.
    """
    try:
        return path.read_text(encoding="utf-8-sig").rstrip("\n")
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None)
        reason = cause.lower() if cause else "it is not UTF-8 text"
        raise UsageError(f"cannot read the prompt {shown(path)}: {reason}") from None
