"""`bread completion`."""

from typing import Any

import pytest


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_it_prints_the_shells_function(bread_of: Any, shell: str) -> None:
    code, out, _ = bread_of(None)("completion", shell)
    assert code == 0
    assert f"_BREAD_COMPLETE={shell}_complete" in out
