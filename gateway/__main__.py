"""Start the service: `python -m gateway`. vLLM's processes import this module again, so nothing runs on import."""

import sys


def main() -> None:
    from gateway.server import serve

    sys.exit(serve(sys.argv[1:]))


if __name__ == "__main__":
    main()
