"""The process in which clients' regular expressions run: see `pattern_search.py`. Imports nothing of ours."""

import importlib
import json
import resource
import sys

MEMORY_BYTES = 1 << 30
"""Address space. Python and a common pattern take a twentieth of it."""
WRONG, TOO_LARGE = "wrong", "too-large"
"""Keys of the output when a pattern does not compile, and when it takes more memory than that."""


def main() -> None:
    """Read a JSON object from standard input: `library` (re or regex), `method` (match, fullmatch or search),
    `patterns`, `texts`, `cpu_seconds`. Write a JSON object: `counts` has, for each text, the number of patterns that
    are found in it."""
    asked = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (asked["cpu_seconds"], asked["cpu_seconds"]))
    library = importlib.import_module(asked["library"])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    find = getattr(library, asked["method"])
    try:
        for pattern in asked["patterns"]:
            library.compile(pattern)
        counts = [sum(find(pattern, text) is not None for pattern in asked["patterns"]) for text in asked["texts"]]
        answer: dict[str, object] = {"counts": counts}
    except (library.error, RecursionError, OverflowError) as error:
        answer = {WRONG: str(error)}
    except MemoryError:
        answer = {TOO_LARGE: True}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
