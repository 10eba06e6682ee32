"""Many items in one request: one that fails does not affect the others."""

from typing import Any

import pytest

from baker.errors import ConfigError, NotFoundError
from baker.repos import prompts, targets
from baker.repos.catalog import Catalog
from gateway.routes.bread import batches
from tests.baker.repos.filled import LOUD, USER, filled

__all__ = ["filled"]  # a fixture


def put_targets(catalog: Catalog, *bodies: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Names of the targets that were added, and the reasons of those that were not."""
    items = batches.config_items(USER, "repo", "target", bodies, may_change=False)
    done = batches.put_each(catalog, USER, "repo", items)
    return done.created, done.failed


def body(name: str, template: str = "default", **overrides: Any) -> dict[str, Any]:
    return {"target_name": name, "template": template, "overrides": overrides}


def test_a_later_item_may_use_an_earlier_one_as_its_template(filled: Catalog) -> None:
    assert put_targets(filled, body("a", u="loud", temperature=0.5), body("b", "a", v="plain")) == (["a", "b"], {})
    config = targets.get(filled, USER, "repo", "b")
    assert (config.teacher_prompt, config.student_prompt, config.temperature) == ("loud", "plain", 0.5)


def test_an_item_that_fails_is_listed_with_its_reason_and_the_others_are_added(filled: Catalog) -> None:
    wrong = {**body("form"), "overrides": 3}
    created, failed = put_targets(filled, body("a"), body("b", temperature=-1), wrong, body("c", "nowhere"), body("d"))
    assert created == ["a", "d"]
    assert list(failed) == ["b", "form", "c"]
    assert "temperature" in failed["b"] and "overrides" in failed["form"] and "'nowhere'" in failed["c"]


def test_a_name_that_fails_once_is_not_listed_as_created(filled: Catalog) -> None:
    created, failed = put_targets(filled, body("a"), body("a", temperature=0.5))
    assert created == [] and "another config" in failed["a"]


def test_an_item_without_a_name_refuses_the_request(filled: Catalog) -> None:
    with pytest.raises(ConfigError, match=r"targets\[1\].target_name must be a string, got None"):
        put_targets(filled, body("a"), {"template": "default"})
    assert "a" not in filled.names("targets", USER, "repo")


def test_a_missing_repo_refuses_the_request(catalog: Catalog) -> None:
    with pytest.raises(NotFoundError):
        put_targets(catalog, body("a"))


def test_a_plain_list_changes_a_prompt_s_messages_and_keeps_its_tools(filled: Catalog) -> None:
    tools = [{"type": "function"}]
    full = {"messages": LOUD.messages, "tools": tools}
    batches.put_each(filled, USER, "repo", batches.prompt_items(USER, "repo", {"tooled": full}))
    messages = [{"role": "user", "content": "Hi"}]
    batches.put_each(filled, USER, "repo", batches.prompt_items(USER, "repo", {"tooled": messages}))
    prompt = prompts.get(filled, USER, "repo", "tooled")
    assert (prompt.messages, prompt.tools) == (messages, tools)
