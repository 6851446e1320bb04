"""`python -m pixano_cli` is `pixano-annotate`."""

from pixano_cli.cli import main

if __name__ == "__main__":
    main()
