"""The command line: parse, call, print. No logic lives here, and nothing heavy is imported."""

from __future__ import annotations

import gc
import sys

from pixano_cli.cli import signals


def main() -> None:
    """Run the command line and exit."""
    signals.handle_signals()
    # What imports make is no garbage. To look through all of it time and again costs a tenth of a
    # second at the start, and as much at the end.
    gc.set_threshold(50_000)
    # Imported late, so that a signal meanwhile is handled too.
    from pixano_cli.cli.app import run

    code = run(sys.argv[1:])
    gc.freeze()
    sys.exit(code)
