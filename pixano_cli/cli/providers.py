"""`pixano-annotate providers`: who can be asked, and whether they answer as they should."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixano_cli.cli import options, tables

if TYPE_CHECKING:
    from pixano_cli.annotate.providers import ProviderReport

app = typer.Typer(help="List who can be asked, and check that one answers as it should.")

_SHOWN = 20


@app.command("list")
def list_providers(as_json: options.Json = False, debug: options.Debug = False) -> None:
    """List every provider: what it can give, where it is asked, and where its key is found."""
    from pixano_cli.annotate.providers import gives, known_providers

    known = known_providers()
    if as_json:
        tables.print_json([asdict(each) for each in known])
        return
    tables.print_table(
        ("NAME", "GIVES", "ADDRESS", "KEY"),
        [
            (
                each.name,
                ", ".join(map(gives, each.tasks)),
                each.url or "this computer",
                each.variable or "none",
            )
            for each in known
        ],
    )


@app.command("check")
def check_provider(
    provider: Annotated[str, typer.Argument(metavar="PROVIDER", help="Name of a provider.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="Ask this model for the boxes of known shapes too: one request, which may cost.",
            show_default=False,
        ),
    ] = None,
    url: options.Url = None,
    api_key_file: options.ApiKeyFile = None,
    box_format: options.BoxFormat = None,
    dialect: options.Dialect = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Check that a provider answers, and how a model of it writes boxes.

    The exit code is 1 where boxes would be read otherwise than they are written, or the model
    cannot give boxes at all.
    """
    from pixano_cli.annotate.providers import check
    from pixano_cli.annotate.settings import Settings

    settings = Settings(
        provider=provider,
        url=url,
        api_key_file=api_key_file,
        box_format=box_format,
        dialect=dialect,
    )
    report = check(settings, model)
    if as_json:
        tables.print_json(_row(report))
    else:
        _print(report)
    return 0 if report.boxes is None or report.boxes.is_good else 1


def _row(report: ProviderReport) -> dict[str, Any]:
    return {
        "server": asdict(report.server),
        "models": [asdict(each) for each in report.models],
        "boxes": None if report.boxes is None else asdict(report.boxes),
    }


def _print(report: ProviderReport) -> None:
    from pixano_cli.annotate.providers import gives

    server = report.server
    typer.echo(f"answers: {server.app_name} {server.app_version}".rstrip())
    names = [
        f"{each.name} ({gives(each.task)})" if each.task else each.name for each in report.models
    ]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    typer.echo(f"models:  {', '.join(names[:_SHOWN]) or 'none'}{more}")
    if report.boxes is not None:
        typer.echo(f"boxes:   {report.boxes.explanation}")
