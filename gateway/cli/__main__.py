"""`python -m gateway.cli` is the `bread` command."""

from gateway.cli import main

if __name__ == "__main__":
    main()
