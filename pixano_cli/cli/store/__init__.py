"""`pixano-annotate store`: look into the store, change what it holds, keep it in order.

It has many commands with many options. To read them all would take every other command, and the
help of the whole tool, half of their start again: so they are read when one of them is named.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup


class LateGroup(TyperGroup):
    """A group whose commands are not read before one of them is wanted."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        self._read()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; None if there is none of the name."""
        self._read()
        return super().get_command(ctx, cmd_name)

    def _read(self) -> None:
        if not self.commands:
            from pixano_cli.cli.store import commands

            read: Any = typer.main.get_command(commands.app)
            self.commands = read.commands


app = typer.Typer(
    cls=LateGroup,
    help="Look into the store of answers, change what it holds, and keep it in order.",
    no_args_is_help=True,
)
