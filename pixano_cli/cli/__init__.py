"""The command line: parse, call, print. No logic lives here, and nothing heavy is imported."""

from pixano_cli.cli.app import main

__all__ = ["main"]
