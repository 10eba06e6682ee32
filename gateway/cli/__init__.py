"""The `bread` command: a client of the HTTP API, which needs no model code. `gateway users` lives here too."""


def main() -> None:
    """Run `bread` with the process's arguments, and end the process."""
    import sys

    from gateway.cli.commands import run

    sys.exit(run(sys.argv[1:]))
