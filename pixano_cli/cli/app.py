"""The application: its commands, its exit codes, and how an error is shown."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from pixano_cli import __version__
from pixano_cli.cli import (
    caption,
    detect,
    embed,
    export,
    models,
    providers,
    segment,
    segment_video,
    signals,
    store,
)
from pixano_cli.errors import PixanoAnnotateError

app = typer.Typer(
    name="pixano-annotate",
    help=(
        "Pre-annotate folders of images and videos with a model: boxes, masks, tracks, captions "
        "and vectors as COCO JSON or Parquet, resumable at any point."
    ),
    epilog=(
        "Exit codes: 0 done; 1 fatal error; 2 wrong usage; 3 more files failed than "
        "--max-failures allows; 130 interrupted; 143 terminated."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("detect")(detect.detect)
app.command("segment")(segment.segment)
app.command("segment-video")(segment_video.segment_video)
app.command("caption")(caption.caption)
app.command("embed")(embed.embed)
app.command("export")(export.export)
app.add_typer(models.app, name="models")
app.add_typer(providers.app, name="providers")
app.add_typer(store.app, name="store")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pixano-annotate {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code."""
    return signals.exit_code(_run(arguments))


def _run(arguments: Sequence[str]) -> int:
    debug = "--debug" in arguments
    quiet = "-q" in arguments or "--quiet" in arguments
    handler = logging.StreamHandler()
    form = "%(levelname)s %(name)s: %(message)s" if debug else "pixano-annotate: %(message)s"
    handler.setFormatter(_Keyless(form))
    logger = logging.getLogger("pixano_cli")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.ERROR if quiet else logging.WARNING)
    try:
        return _answer(arguments, debug)
    finally:
        logger.removeHandler(handler)


class _Keyless(logging.Formatter):
    """Shows no API key, whoever tells of it; a traceback is told by others."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        return _without_keys(super().format(record))


def _without_keys(text: str) -> str:
    # Where no provider that has keys was imported there are none.
    keys = sys.modules.get("pixano_cli.inference.providers.keys")
    shown: str = keys.hide_keys(text) if keys else text
    return shown


def _answer(arguments: Sequence[str], debug: bool) -> int:
    try:
        code = app(list(arguments), standalone_mode=False)
        return code if isinstance(code, int) else 0
    except PixanoAnnotateError as error:
        return _fail(str(error), error.exit_code, debug)
    except typer.Abort:
        return _fail("aborted", 130, debug)
    except Exception as error:
        # The parser's own errors, whichever class the installed version gives them.
        format_message = getattr(error, "format_message", None)
        if format_message is not None:
            message = format_message()
            # Without a command the help has been shown, and there is no more to say.
            return _fail(f"{message} (see --help)", 2, debug) if message else 2
        reason = f"unexpected {type(error).__name__}: {error}; run again with --debug and report it"
        return _fail(reason, 1, debug)


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        logging.getLogger(__name__).debug("traceback", exc_info=True)
    line = _without_keys(" ".join(message.split()))
    typer.echo(f"pixano-annotate: {line}", err=True)
    return code
