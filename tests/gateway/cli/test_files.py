"""Questions in a file."""

from pathlib import Path

import pytest

from gateway.cli.failures import CliError, Exit
from gateway.cli.files import questions_of


def test_each_line_is_a_question(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("\ufeffWho?\n\n  Why? \n")
    assert questions_of(path) == ["Who?", "Why?"]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\n \n"])
def test_other_files_are_wrong_usage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "questions.txt"
    path.write_bytes(content)
    with pytest.raises(CliError) as error:
        questions_of(path)
    assert error.value.code == Exit.USAGE
