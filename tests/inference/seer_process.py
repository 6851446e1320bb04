"""The seer in a process of its own, to be killed: `python -m ... PORT LOG TAKES`.

It notes in LOG what is asked and what is answered, a line each, before the answer goes out.
"""

import sys
from pathlib import Path
from threading import Event

from .annotating import Seer, digest_in, seer
from .own_server import Handler


def main(port: str, log: str, takes: str) -> None:
    """Serve until the end."""
    with seer(port=int(port)) as model, Path(log).open("a", buffering=1) as note:
        model.takes = float(takes)

        def reply(handler: Handler) -> None:
            digest = digest_in(handler.body)
            note.write(f"asked {digest}\n")
            Seer.reply(model, handler)
            note.write(f"answered {digest}\n")

        model.own.on("/v1/chat/completions", reply)
        print("ready", flush=True)
        Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
