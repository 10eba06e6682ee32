"""Many items in one request: one that fails does not affect the others."""

import asyncio
from typing import Any

import pytest

from baker.errors import ConfigError, NotFoundError
from baker.repos import prompts, targets
from baker.repos.catalog import Catalog
from gateway.routes.bread import batches
from tests.baker.repos.filled import LOUD, USER, filled
from tests.fakes import FakeEngine
from tests.gateway.application import Client
from tests.gateway.routes.bread.filled import fill

__all__ = ["filled"]  # a fixture


def put_targets(catalog: Catalog, *bodies: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Names of the targets that were added, and the reasons of those that were not."""
    items = batches.target_items(USER, "repo", bodies, may_change=False)
    done = batches.put_each(catalog, USER, "repo", "put-target", items)
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
    with pytest.raises(ConfigError, match=r"targets\.1\.target_name: must be a string, got None"):
        put_targets(filled, body("a"), {"template": "default"})
    assert "a" not in filled.names("targets", USER, "repo")


def test_a_missing_repo_refuses_the_request(catalog: Catalog) -> None:
    with pytest.raises(NotFoundError):
        put_targets(catalog, body("a"))


@pytest.mark.anyio
async def test_a_plain_list_changes_a_prompt_s_messages_and_keeps_its_tools(filled: Catalog) -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    full = {"messages": LOUD.messages, "tools": tools}
    batches.put_each(
        filled, USER, "repo", "put-prompt", await batches.prompt_items(FakeEngine(), USER, "repo", {"tooled": full})
    )
    messages = [{"role": "user", "content": "Hi"}]
    batches.put_each(
        filled, USER, "repo", "put-prompt", await batches.prompt_items(FakeEngine(), USER, "repo", {"tooled": messages})
    )
    prompt = prompts.get(filled, USER, "repo", "tooled")
    assert (prompt.messages, prompt.tools) == (messages, tools)


@pytest.mark.anyio
async def test_other_requests_run_between_the_prompts_of_a_batch() -> None:
    bodies = {f"p{index}": 5 if index % 2 else [{"role": "user", "content": "Hi"}] for index in range(50)}
    turns = 0

    async def other_request() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(other_request())
    await batches.prompt_items(FakeEngine(), USER, "repo", bodies)
    other.cancel()
    assert turns >= len(bodies)


@pytest.mark.anyio
async def test_a_batch_creates_the_valid_items_and_reports_the_others(client: Client) -> None:
    await fill(client)
    repo = "/v1/repo/repo"
    tools = [{"type": "function", "function": {"name": "look"}}]
    formal = [{"role": "system", "content": "Be formal"}]
    prompts = {"formal": formal, "bad/name": formal, "casual": {"messages": [], "tools": tools}, "odd": 5}
    done = await client.post(f"{repo}/prompts/batch", json={"prompts": prompts})
    assert (done.status_code, done.json()["created"]) == (200, ["formal", "casual"])
    assert set(done.json()["failed"]) == {"bad/name", "odd"}
    assert "'/'" in done.json()["failed"]["bad/name"]
    changed = await client.put(f"{repo}/prompts/batch", json={"prompts": {"formal": [], "casual": formal}})
    assert changed.json() == {"created": ["formal", "casual"], "failed": {}}
    casual = (await client.get(f"{repo}/prompts/casual")).json()
    assert (casual["messages"], casual["tools"]) == (formal, tools), "a plain list does not change the tools"

    targets = [
        {"target_name": "one", "template": "target", "overrides": {"temperature": 0.5}},
        {"target_name": "two", "template": "one"},
        {"target_name": "three", "template": "nowhere"},
        {"target_name": "target", "template": "default"},
        {"target_name": "five", "template": "default", "colour": 1},
    ]
    done = await client.post(f"{repo}/targets/batch", json={"targets": targets})
    assert done.json()["created"] == ["one", "two"]
    assert set(done.json()["failed"]) == {"three", "target", "five"}
    two = (await client.get(f"{repo}/targets/two")).json()["config"]
    assert (two["temperature"], two["u"]) == (0.5, "loud"), "a later item may use an earlier one as its template"
    assert (await client.put(f"{repo}/targets/batch", json={"targets": targets[3:4]})).json()["created"] == ["target"]

    bakes = [
        {"bake_name": "a", "template": "default", "overrides": {"datasets": [{"target": "one"}]}},
        {"bake_name": "b", "template": "default", "overrides": {"datasets": [{"target": "gone"}]}},
        {"bake_name": "c", "template": "default"},
    ]
    for method in ("post", "put", "post"):
        done = await client.request(method, f"{repo}/bakes/batch", json={"bakes": bakes})
        assert (done.json()["created"], list(done.json()["failed"])) == (["a", "c"], ["b"])


@pytest.mark.anyio
async def test_a_batch_has_each_item_s_warnings_and_refuses_what_can_t_be_served(client: Client) -> None:
    await fill(client)
    repo = "/v1/repo/repo"
    prompts = {
        "wizard": [{"role": "wizard", "content": "Hi"}],
        "fine": [{"role": "system", "content": "Hi"}],
        "odd": [{"role": "system", "content": "UNRENDERABLE"}],
    }
    done = (await client.post(f"{repo}/prompts/batch", json={"prompts": prompts})).json()
    assert (done["created"], list(done["failed"]), list(done["warnings"])) == (["wizard", "fine"], ["odd"], ["wizard"])
    targets = [
        {"target_name": "a", "template": "default", "overrides": {"u": "lout"}},
        {"target_name": "b", "template": "default", "overrides": {"u": "loud"}},
    ]
    done = (await client.put(f"{repo}/targets/batch", json={"targets": targets})).json()
    assert done["created"] == ["a", "b"]
    assert done["warnings"] == {"a": ["teacher_prompt: Prompt 'lout' not found in repo 'repo'; did you mean 'loud'?"]}
    bakes = [
        {"bake_name": "a", "template": "default", "overrides": {"model": {"parent_model_name": "repo/gone"}}},
        {"bake_name": "b", "template": "default", "overrides": {"model": {"baked_adapter_config": {"r": 33}}}},
    ]
    done = (await client.post(f"{repo}/bakes/batch", json={"bakes": bakes})).json()
    assert (done["created"], list(done["failed"]), list(done["warnings"])) == (["a"], ["b"], ["a"])
    assert "the rank is 33, but this service serves ranks up to 32" in done["failed"]["b"]
