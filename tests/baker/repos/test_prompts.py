"""Prompts: added, changed, refused."""

from typing import Any

import pytest

from baker.errors import ConfigError, ConflictError
from baker.repos import prompts
from baker.repos.catalog import Catalog
from baker.types import Prompt
from tests.baker.repos.filled import LOUD, USER, filled

__all__ = ["filled"]  # a fixture


def test_a_prompt_keeps_extra_keys_and_changes_only_if_allowed(filled: Catalog) -> None:
    assert prompts.get(filled, USER, "repo", "loud") == LOUD
    other = Prompt(
        messages=[{"role": "system", "content": "Be quiet"}], tools=[{"type": "function", "function": {"name": "f"}}]
    )
    with pytest.raises(ConflictError):
        prompts.put(filled, USER, "repo", "loud", other, may_change=False)
    assert prompts.get(filled, USER, "repo", "loud") == LOUD
    prompts.put(filled, USER, "repo", "loud", other, may_change=True)
    assert prompts.get(filled, USER, "repo", "loud") == other
    assert filled.names("prompts", USER, "repo") == ["loud", "plain"], "a change keeps the order of creation"


@pytest.mark.parametrize("message", [{"content": "x"}, {"role": 3, "content": "x"}, {"role": "user", "content": 5}])
def test_a_message_without_a_role_or_with_invalid_content_is_refused(filled: Catalog, message: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"messages\.0\."):
        prompts.put(filled, USER, "repo", "odd", Prompt(messages=[message]), may_change=True)
