"""Bodies of our own routes: every mistake at once, wherever it is."""

from typing import Any

import pytest

from baker.errors import ConfigError
from gateway.http.bodies import read_body
from gateway.protocol import requests
from tests.gateway.application import Client
from tests.gateway.routes.bread.filled import fill

pytestmark = pytest.mark.anyio

WRONG: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    (
        "/v1/repo/repo/targets",
        {"target_name": "a b", "learning_rate": 1, "overrides": {"temprature": 1, "max_tokens": 0}},
        {
            "template": "missing: send 'default'",
            "learning_rate": "unknown field",
            "target_name": "invalid character: ' '",
            "overrides.temprature": "did you mean `temperature`?",
            "overrides.max_tokens": ">= 1, got 0",
        },
    ),
    (
        "/v1/repo/repo/bakes",
        {"bake_name": "default", "template": 3, "rank": 1, "datasets": [], "overrides": {"colour": 1}},
        {
            "bake_name": "reserved",
            "template": "Expected `str`, got `int`: 3",
            "rank": "did you mean `overrides.model.baked_adapter_config.r`?",
            "datasets": "did you mean `overrides.datasets`?",
            "overrides.colour": "unknown field",
        },
    ),
    (
        "/v1/repo/repo/bakes",
        {"bake_name": "a/b", "template": "gone", "overrides": {"colour": 1, "epochs": "x"}},
        {
            "bake_name": "'/'",
            "template": "Bake 'gone' not found in repo 'repo'",
            "overrides.colour": "unknown field",
            "overrides.epochs": "got `str`: 'x'",
        },
    ),
    (
        "/v1/repo/repo/prompts",
        {"prompt_name": "batch", "messages": [{"content": 1}, 5], "tools": [{"type": "x"}], "tool": []},
        {
            "prompt_name": "reserved",
            "messages.0.role": "must be a string",
            "messages.0.content": "must be a string, a list",
            "messages.1": "Expected `object`",
            "tools.0.type": "Invalid enum value",
            "tools.0.function": "missing",
            "tool": "did you mean `tools`?",
        },
    ),
    (
        "/v1/repo",
        {"repo": "x", "basemodel": 1},
        {
            "repo": "did you mean `repo_name`?",
            "basemodel": "did you mean `base_model`?",
            "repo_name": "missing",
        },
    ),
]


@pytest.mark.parametrize(("path", "body", "expected"), WRONG)
async def test_every_mistake_of_a_body_is_reported_at_once(
    client: Client, path: str, body: dict[str, Any], expected: dict[str, str]
) -> None:
    await fill(client)
    answer = await client.post(path, json=body)
    assert answer.status_code == 422
    error = answer.json()
    assert error["code"] == "VALIDATION_ERROR" and error["error"] == error["message"]
    texts = {".".join(entry["loc"][1:]): entry["msg"] for entry in error["detail"]}
    assert set(texts) == set(expected)
    assert all(words in texts[where] for where, words in expected.items()), texts
    assert all(f"{where}: {text}" in error["message"] for where, text in texts.items())


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (
            "targets",
            {"target_name": "n", "template": "targett"},
            "template: Target 'targett' not found in repo 'repo'; did you mean 'target'?",
        ),
        ("bakes", {"bake_name": "n", "template": "gone"}, "template: Bake 'gone' not found in repo 'repo'"),
        (
            "bakes",
            {"bake_name": "n", "template": "default", "overrides": {"datasets": [{"target": "targe"}]}},
            "Target 'targe' not found in repo 'repo'; did you mean 'target'?",
        ),
    ],
)
async def test_an_unknown_name_in_a_body_gets_a_hint(
    client: Client, path: str, body: dict[str, Any], words: str
) -> None:
    await fill(client)
    answer = await client.post(f"/v1/repo/repo/{path}", json=body)
    assert (answer.status_code, answer.json()["message"]) == (404, words)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/repo/rep", "Repo 'rep' not found; did you mean 'repo'?"),
        ("/v1/repo/repo/prompts/lout", "Prompt 'lout' not found in repo 'repo'; did you mean 'loud'?"),
        ("/v1/repo/repo/targets/Target", "Target 'Target' not found in repo 'repo'; did you mean 'target'?"),
        ("/v1/repo/repo/bakes/gavin", "Bake 'gavin' not found in repo 'repo'"),
    ],
)
async def test_an_unknown_name_in_a_path_gets_a_hint(client: Client, path: str, words: str) -> None:
    await fill(client)
    assert (await client.get(path)).json()["message"] == words


async def test_bodies_that_are_absent_or_broken_or_no_objects_are_refused(client: Client) -> None:
    for body, status, words in [
        (b"", 422, "a JSON body is needed"),
        (b"{", 400, "not valid JSON"),
        (b"\xff", 400, "not valid JSON"),
        (b"[]", 422, "Expected `object`, got `array`"),
        (b"[" * 100_000, 400, "not valid JSON"),
    ]:
        answer = await client.put("/v1/repo", content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, words in answer.json()["message"]) == (status, True), answer.text


def test_a_body_of_the_right_form_is_read() -> None:
    body = {"target_name": "a", "template": "default", "overrides": {"temperature": 1}}
    assert read_body(body, requests.TargetCreate).overrides == {"temperature": 1}
    with pytest.raises(ConfigError, match=r"overrides\.temperatur: .* did you mean `temperature`"):
        read_body({"template": 1, "overrides": {"temperatur": 1}}, requests.TargetSet)
