"""`bread completion`."""

import pytest

from tests.gateway.cli.conftest import Bread


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_it_prints_the_shells_function(bread: Bread, shell: str) -> None:
    code, out, _ = bread("completion", shell)
    assert code == 0
    assert f"_BREAD_COMPLETE={shell}_complete" in out
