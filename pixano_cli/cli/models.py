"""`pixano-annotate models`: what local models there are, and what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pixano_cli.cli import console, options

if TYPE_CHECKING:
    from pixano_cli.inference.provider import ModelDescription

app = typer.Typer(help="List the local models and show what is known of them.")


@app.command("list")
def list_models(
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """List every local model: its name, task, licence and size."""
    import orjson

    from pixano_cli.annotate.catalogue import catalogue

    models, failures = catalogue()
    for failure in failures:
        console.note(
            f"plugin {failure.name} ({failure.distribution}) cannot be loaded: {failure.error}"
        )
    if as_json:
        typer.echo(orjson.dumps([_row(model) for model in models]).decode())
        return
    rows = [("NAME", "TASK", "LICENCE", "DIGEST", "SIZE", "FROM")]
    rows += [
        (
            model.name,
            model.task.value,
            model.license or "unknown",
            model.digest[:12] or "unknown",
            _size(model.size),
            model.origin or "unknown",
        )
        for model in models
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        typer.echo("  ".join([*cells, row[-1]]))


@app.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="Name of a local model.")],
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show what is known of a model: licence, digest, size, where from, classes."""
    import orjson

    from pixano_cli.annotate.catalogue import find_model

    row = _together([_row(use) for use in find_model(name)])
    if as_json:
        typer.echo(orjson.dumps(row).decode())
        return
    for key, value in row.items():
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        if key == "size" and value is not None:
            value = f"{value:,} bytes"
        typer.echo(f"{key + ':':<13}{'unknown' if value in (None, '') else value}")


def _row(model: ModelDescription) -> dict[str, object]:
    row: dict[str, object] = {
        "name": model.name,
        "task": model.task.value,
        "description": model.description,
        "licence": model.license,
        "digest": model.digest,
        "size": model.size,
        "from": model.origin,
    }
    if model.embedding_size is not None:
        row["dimension"] = model.embedding_size
    if model.categories is not None:
        row["classes"] = [category.name for category in model.categories]
    return row


def _together(rows: Sequence[dict[str, object]]) -> dict[str, object]:
    """Return the rows of a model's uses as one; what they differ in is a list."""
    whole: dict[str, object] = {}
    for key in {key: None for row in rows for key in row}:
        values = [row[key] for row in rows if key in row]
        different = [value for index, value in enumerate(values) if value not in values[:index]]
        whole[key] = different[0] if len(different) == 1 else different
    return whole


def _size(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e6:.1f} MB"
