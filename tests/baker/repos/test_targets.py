"""Targets and their templates: added, changed, removed."""

from typing import Any

import pytest

from baker.errors import ConfigError, ConflictError, NotFoundError
from baker.repos import prompts, repos, targets, users
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.storage.credentials import PasswordHash, new_key
from baker.types import User
from tests.baker.repos.filled import TEMPLATE, USER, filled, finish, put_target, start

__all__ = ["filled"]  # a fixture


def test_a_target_may_be_changed_until_it_has_run(filled: Catalog) -> None:
    put_target(filled, temperature=0.5)
    job = start(filled, Stage.STIM, "target")
    put_target(filled, temperature=0.5)  # the same again is no change
    with pytest.raises(ConflictError, match="another name"):
        put_target(filled, temperature=0.7)
    finish(filled, job, JobState.FAILED, lines=0)
    put_target(filled, temperature=0.7)
    assert targets.get(filled, USER, "repo", "target").temperature == 0.7


def test_a_template_is_copied_when_it_is_used(filled: Catalog) -> None:
    targets.put(filled, USER, "repo", "child", "target", {"temperature": 0.1}, may_change=True)
    put_target(filled, max_tokens=9)
    child = targets.get(filled, USER, "repo", "child")
    assert (child.teacher_prompt, child.temperature, child.max_tokens) == ("loud", 0.1, None)
    with pytest.raises(NotFoundError, match="'nowhere'"):
        targets.put(filled, USER, "repo", "orphan", "nowhere", {}, may_change=True)


def put_asking(catalog: Catalog, content: str | None, path: str | None, *, may_change: bool = False) -> Any:
    generator = {"type": "oneshot_qs", "template_content": content, "template_path": path}
    overrides = {"u": "loud", "v": "plain", "generators": [generator]}
    return targets.put(catalog, USER, "repo", "asking", "default", overrides, may_change=may_change)


def test_a_template_is_kept_in_the_repo_and_the_config_keeps_its_path(filled: Catalog) -> None:
    result = put_asking(filled, TEMPLATE, "/etc/../q.txt")
    assert result.is_new
    assert result.value.generators[0].template_path == "templates/q.txt"
    assert result.value.generators[0].template_content is None
    assert targets.get(filled, USER, "repo", "asking") == result.value
    assert filled.names("templates", USER, "repo") == ["q.txt"]
    assert not put_asking(filled, TEMPLATE, "templates/q.txt").is_new
    assert not put_asking(filled, None, "q.txt").is_new
    assert filled.store.template(USER, "repo", "q.txt") == TEMPLATE


def test_another_text_under_the_same_path_is_for_new_jobs(filled: Catalog) -> None:
    put_asking(filled, TEMPLATE, "q.txt")
    job = start(filled, Stage.STIM, "asking")
    assert not put_asking(filled, f"{TEMPLATE}!", "q.txt").is_new, "the config is the same, so it is no conflict"
    assert filled.store.template(USER, "repo", "q.txt") == f"{TEMPLATE}!"
    assert job.inputs.generators[0].template == TEMPLATE


def test_a_refused_target_leaves_no_template(filled: Catalog) -> None:
    put_asking(filled, TEMPLATE, None)
    kept = filled.names("templates", USER, "repo")
    with pytest.raises(ConflictError):
        put_asking(filled, f"{TEMPLATE}!", None)
    with pytest.raises(ConfigError):
        put_asking(filled, "no variables", "q.txt", may_change=True)
    assert filled.names("templates", USER, "repo") == kept
    assert len(kept) == 1


def test_templates_belong_to_one_user(filled: Catalog) -> None:
    put_asking(filled, TEMPLATE, "q.txt")
    key, _ = new_key("other")
    users.add(filled, User("other", "Other", "other@example.org", 0), PasswordHash(b"salt", b"digest"), key)
    repos.put(filled, "other", "repo", None)
    assert filled.names("templates", "other", "repo") == []
    assert filled.store.template("other", "repo", "q.txt") is None


def test_a_target_or_prompt_in_use_is_not_deleted(filled: Catalog) -> None:
    job = start(filled, Stage.STIM, "target")
    with pytest.raises(ConflictError, match="wait"):
        targets.delete(filled, USER, "repo", "target")
    with pytest.raises(ConflictError, match="'loud'"):
        prompts.delete(filled, USER, "repo", "loud")
    finish(filled, job)
    assert targets.delete(filled, USER, "repo", "target", prune=True).removed == [job.id]
    prompts.delete(filled, USER, "repo", "loud")
    with pytest.raises(NotFoundError):
        targets.get(filled, USER, "repo", "target")
