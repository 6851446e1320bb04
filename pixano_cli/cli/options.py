"""The options that commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_WHAT = "What to annotate"
_HOW = "How to run"
_SERVER = "How to ask a server"
_SHOW = "What to print"

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="Image, folder, glob, or - for a list of paths on standard input.",
        show_default=False,
    ),
]
Outputs = Annotated[
    list[Path],
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="File to write: .json is COCO, .parquet is Parquet. Repeat for more.",
        show_default=False,
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="FILE",
        help="Weights for the model in place of its own, .pt or .safetensors, for a sam2 model.",
        show_default=False,
    ),
]
ModelConfig = Annotated[
    str | None,
    typer.Option(
        "--model-config",
        metavar="NAME|FILE",
        help="The network that the checkpoint is of: a YAML file, or the name of one inside the "
        "package sam2.",
        show_default="the model's own",
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the image encoder of a sam2 model: minutes at the start, faster on a GPU "
        "afterwards.",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="coco or parquet, whatever the suffix.",
        show_default="by suffix",
    ),
]
Provider = Annotated[
    str,
    typer.Option(
        "--provider",
        "-p",
        metavar="NAME",
        help="Who is asked: `providers list` shows them all.",
        rich_help_panel=_HOW,
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="Address of the server, for a provider that asks one.",
        show_default="the provider's own",
        rich_help_panel=_SERVER,
    ),
]
ApiKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file",
        metavar="FILE",
        help="File with the server's API key.",
        show_default="the provider's environment variable",
        rich_help_panel=_SERVER,
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="A,B,...",
        help="Write only these classes.",
        show_default="all",
        rich_help_panel=_WHAT,
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        metavar="SCORE",
        help="Lowest score to write, 0 to 1. Raising it later needs no new inference.",
        show_default="0.5",
        rich_help_panel=_WHAT,
    ),
]
Categories = Annotated[
    Path | None,
    typer.Option(
        "--categories",
        metavar="FILE",
        help="Label set to write, with its ids: a COCO file, a JSON list of {id, name}, or text "
        "with one label a line. Labels that are not in it are left out.",
        show_default="the model's own",
        rich_help_panel=_WHAT,
    ),
]
Recursive = Annotated[
    bool,
    typer.Option("--recursive/--no-recursive", help="Search folders below.", rich_help_panel=_WHAT),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        help="Most images in one call, for models that take several.",
        show_default="the model's own",
        rich_help_panel=_HOW,
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        "--concurrency",
        metavar="N",
        help="Most images worked on at once.",
        show_default="one a processor; what a server keeps up with",
        rich_help_panel=_HOW,
    ),
]
Rpm = Annotated[
    int | None,
    typer.Option(
        "--rpm",
        metavar="N",
        help="Most requests a minute.",
        show_default="no limit",
        rich_help_panel=_SERVER,
    ),
]
Tpm = Annotated[
    int | None,
    typer.Option(
        "--tpm",
        metavar="N",
        help="Most tokens a minute.",
        show_default="no limit",
        rich_help_panel=_SERVER,
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        help="Time for the answer to one request, with all its tries.",
        rich_help_panel=_SERVER,
    ),
]
MaxSide = Annotated[
    int | None,
    typer.Option(
        "--max-side",
        metavar="PIXELS",
        help="Scale larger images down to this side before they are sent.",
        show_default="send all of it",
        rich_help_panel=_SERVER,
    ),
]
BoxFormat = Annotated[
    str | None,
    typer.Option(
        "--box-format",
        metavar="FORMAT",
        help="How a language model writes boxes, as xyxy-pixels or yxyx-thousand; `providers "
        "check` finds out.",
        show_default="known by the model's name, or found out",
        rich_help_panel=_SERVER,
    ),
]
Dialect = Annotated[
    str | None,
    typer.Option(
        "--dialect",
        metavar="g1|...|g5",
        help="Generation of a Pixano Inference server.",
        show_default="found out",
        rich_help_panel=_SERVER,
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        "--time-limit",
        metavar="SECONDS",
        help="Begin no image after this time; the same command goes on from there.",
        show_default="none",
        rich_help_panel=_HOW,
    ),
]
MaxCost = Annotated[
    float | None,
    typer.Option(
        "--max-cost",
        metavar="USD",
        help="Stop before the run costs more than this.",
        show_default="no limit",
        rich_help_panel=_SERVER,
    ),
]
Prices = Annotated[
    Path | None,
    typer.Option(
        "--prices",
        metavar="FILE",
        help='What tokens cost, as {"MODEL": {"input": USD, "output": USD}} a million; * stands '
        "for anything.",
        show_default="a table of known models",
        rich_help_panel=_SERVER,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="cpu, cuda, cuda:N, mps or auto, for local models.",
        rich_help_panel=_HOW,
    ),
]
StoreFolder = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="FOLDER",
        envvar="PIXANO_STORE",
        help="Where every answer is kept: a folder, or a database's URL.",
        show_default=".pixano-annotate",
        rich_help_panel=_HOW,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Ask again for what is recorded, and replace it.", rich_help_panel=_HOW
    ),
]
Checksum = Annotated[
    bool,
    typer.Option(
        "--checksum",
        help="Read every file, also those whose size and time have not changed.",
        rich_help_panel=_HOW,
    ),
]
MaxFailures = Annotated[
    str,
    typer.Option(
        "--max-failures",
        metavar="N|P%",
        help="How many files may fail before the exit code is 3.",
        rich_help_panel=_HOW,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Tell what would be done; do nothing.", rich_help_panel=_HOW),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print the summary as a JSON object.", rich_help_panel=_SHOW),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Name every failed file.", rich_help_panel=_SHOW),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=_SHOW)
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=_SHOW)]


def split_classes(text: str | None) -> list[str] | None:
    """Read `A,B,...`; None stays None."""
    return None if text is None else [name.strip() for name in text.split(",")]
