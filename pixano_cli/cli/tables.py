"""Tables and histograms for people, in plain text that also reads well in a file; JSON for others.

On a terminal a table is made to fit; in a file or a pipe nothing is cut.
"""

from __future__ import annotations

import math
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from unicodedata import combining, east_asian_width

import typer

_EIGHTHS = " ▏▎▍▌▋▊▉"
_CUT = "…"
_LONGEST_BAR = 40
_LONGEST_NAME = 60
_MOST_BARS = 50
# A text is not cut to less than this.
_LEAST = 8
_GAP = 2
_BIN = re.compile(r"\[(?P<low>[^,]+), (?P<high>[^,]+)(?P<end>[\])])")
# Up to here a double is one integer.
_EXACT = 2**53
_UNITS = ("B", "kB", "MB", "GB", "TB")


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under a header: numbers to the right, all else to the left."""
    body = [list(row) for row in rows]
    texts = [list(header), *([cell_text(cell) for cell in row] for row in body)]
    columns = range(len(header))
    numeric = [
        bool(body) and all(isinstance(row[column], (int, float)) for row in body)
        for column in columns
    ]
    widths = [max(width_of(row[column]) for row in texts) for column in columns]
    if sys.stdout.isatty():
        widths = _fitted(widths, numeric, shutil.get_terminal_size().columns)
    for row in texts:
        cells = [
            padded(cut(cell, width), width, to_the_right=right)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        typer.echo((" " * _GAP).join(cells).rstrip())


def print_json(value: Any) -> None:
    """Print a value as JSON on a line, in UTF-8 whatever the terminal's encoding."""
    import orjson

    typer.echo(orjson.dumps(value))


def cell_text(cell: object) -> str:
    """Return a cell as text on one line; nothing is a dash."""
    if cell is None or cell == "":
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:.3f}"
    return "".join(each if each.isprintable() else "�" for each in str(cell))


def print_histogram(counts: Mapping[str, int]) -> None:
    """Print a bar for each count, as long as the terminal allows; the first of very many."""
    if not counts:
        return
    shown = dict([*counts.items()][:_MOST_BARS])
    largest = max(shown.values()) or 1
    names = {name: cut(cell_text(name), _LONGEST_NAME) for name in shown}
    width = max(map(width_of, names.values()))
    numbers = max(len(f"{count:,}") for count in shown.values())
    room = shutil.get_terminal_size().columns - width - numbers - 2 * _GAP
    longest = max(1, min(_LONGEST_BAR, room))
    for name, count in shown.items():
        drawn = bar(count / largest, longest)
        line = f"{padded(names[name], width)}  {count:>{numbers},}  {drawn}"
        typer.echo(line.rstrip())
    if len(counts) > len(shown):
        typer.echo(f"... and {len(counts) - len(shown):,} more: --json shows all")


def whole_ranges(counts: Mapping[str, int]) -> dict[str, int]:
    """Name the bins of integers by the first and the last integer in each: [0, 2.5) is 0 to 2.

    Bins that no integer can be in are left out. Those of very large integers keep their names.
    """
    found = {}
    for name, count in counts.items():
        form = _BIN.fullmatch(name)
        low, high = (float(form["low"]), float(form["high"])) if form else (math.inf, math.inf)
        if form is None or max(abs(low), abs(high)) >= _EXACT:
            found[name] = count
            continue
        first = math.ceil(low)
        last = math.floor(high) if form["end"] == "]" else math.ceil(high) - 1
        if first <= last:
            found[str(first) if first == last else f"{first} to {last}"] = count
    return found


def bar(share: float, longest: int) -> str:
    """Return a bar of `share` (0 to 1) of the longest, to an eighth of a character.

    What is not zero is to be seen.
    """
    eighths = round(share * longest * 8)
    if share > 0:
        eighths = max(1, eighths)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def size_text(size: int | None) -> str:
    """Return a size in bytes as people read it."""
    if size is None:
        return "unknown"
    amount = float(size)
    for unit in _UNITS[:-1]:
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} {_UNITS[-1]}"


def width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def cut(text: str, width: int) -> str:
    """Return a text of at most so many columns, without its middle if it is too long."""
    if width_of(text) <= width:
        return text
    room = width - 1
    start = _beginning(text, room - room // 2)
    end = _beginning(text[::-1], room // 2)[::-1]
    return f"{start}{_CUT}{end}"


def padded(text: str, width: int, *, to_the_right: bool = False) -> str:
    """Return a text with blanks to so many columns."""
    blanks = " " * (width - width_of(text))
    return blanks + text if to_the_right else text + blanks


def _columns(character: str) -> int:
    if combining(character):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def _beginning(text: str, width: int) -> str:
    used = 0
    for index, character in enumerate(text):
        used += _columns(character)
        if used > width:
            return text[:index]
    return text


def _fitted(widths: Sequence[int], numeric: Sequence[bool], columns: int) -> list[int]:
    """Return widths that fit, if that can be: the widest texts are made smaller first."""
    fitted = list(widths)
    too_much = sum(fitted) + _GAP * (len(fitted) - 1) - columns
    while too_much > 0:
        texts = [index for index, right in enumerate(numeric) if not right]
        widest = max(texts, key=lambda index: fitted[index], default=None)
        if widest is None or fitted[widest] <= _LEAST:
            break
        fitted[widest] -= 1
        too_much -= 1
    return fitted
