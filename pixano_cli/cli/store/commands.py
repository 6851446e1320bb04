"""The commands of `pixano-annotate store`."""

from __future__ import annotations

import typer

from pixano_cli.cli import export
from pixano_cli.cli.store import change, counts, find, look, order, retention

app = typer.Typer()
app.command("status")(counts.status)
app.command("list")(look.list_records)
app.command("show")(look.show)
app.command("count")(counts.count)
app.command("labels")(counts.labels)
app.command("stats")(counts.stats)
app.command("tag")(change.tag)
app.command("protect")(change.protect)
app.command("delete")(change.delete)
app.command("similar")(find.similar)
app.command("duplicates")(find.duplicates)
app.add_typer(retention.app, name="retention")
app.command("export")(export.export_records)
app.command("vacuum")(order.vacuum)
app.command("verify")(order.verify)
