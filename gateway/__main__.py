"""`python -m gateway` starts the service; `python -m gateway users` manages its users.

vLLM's processes import this module again, so importing it must do nothing.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["users"]:
        from gateway.cli.users import run

        sys.exit(run(arguments[1:], os.environ, Path.cwd()))
    from gateway.server import serve

    sys.exit(serve(arguments))


if __name__ == "__main__":
    main()
