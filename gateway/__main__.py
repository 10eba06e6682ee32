"""`python -m gateway` starts the service; `python -m gateway users` manages its users.

vLLM's processes import this module again, so importing it must do nothing.
"""

import atexit
import os
import sys
from pathlib import Path
from typing import NoReturn


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["users"]:
        from gateway.cli.users import run

        sys.exit(run(arguments[1:], os.environ, Path.cwd()))
    from gateway.server import serve

    _end(serve(arguments))


def _end(exit_code: int) -> NoReturn:
    """End the process without destroying the interpreter: nanobind (in triton, which vLLM imports) would print forty
    lines about leaks of its own at every stop."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


if __name__ == "__main__":
    main()
