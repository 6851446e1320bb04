"""The command line: parse, call, print. No logic lives here, and nothing heavy is imported."""

from __future__ import annotations

import sys

from pixano_cli.cli import signals


def main() -> None:
    """Run the command line and exit."""
    signals.handle_signals()
    # Imported late, so that a signal meanwhile is handled too.
    from pixano_cli.cli.app import run

    sys.exit(run(sys.argv[1:]))
