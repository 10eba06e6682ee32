"""Questions in a text file."""

from pathlib import Path

from gateway.cli.failures import CliError, Exit


def questions_of(path: Path) -> list[str]:
    """The lines of a text file that hold text. Raises: CliError if it is none, or holds none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"cannot read {path} ({error}): it must be a text file in UTF-8", Exit.USAGE) from error
    questions = [line.strip() for line in lines if line.strip()]
    if not questions:
        raise CliError(f"{path} has no question: write one a line", Exit.USAGE)
    return questions
