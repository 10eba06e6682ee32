"""`python -m gateway.cli` is the `bread` command."""

from gateway.cli.commands import main

if __name__ == "__main__":
    main()
