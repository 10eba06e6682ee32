"""What the Bread routes refuse, over HTTP with a fake engine: wrong requests, hostile names, broken bodies.

The unmodified clients use the real service in tests/behaviour/test_first_bake.py and tests/clients.
"""

from typing import Any

import pytest

from gateway.services import Services
from tests.gateway.application import Client, new_user
from tests.gateway.routes.bread.filled import fill

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word"),
    [
        ("get", "/v1/repo/gone", None, 404, "'gone'"),
        ("get", "/v1/repo/repo/prompts/gone", None, 404, "'gone'"),
        ("get", "/v1/repo/repo/targets/gone/stim", None, 404, "'gone'"),
        ("post", "/v1/repo/repo/targets/gone/stim", None, 404, "'gone'"),
        ("get", "/v1/repo/repo/bakes/gone/metrics", None, 404, "'gone'"),
        ("get", "/v1/repo/repo/nothing", None, 404, "/v1/repo/repo/nothing"),
        ("patch", "/v1/repo", {}, 405, "PATCH"),
        ("post", "/v1/repo", {"repo_name": "a/b"}, 422, "'/'"),
        ("post", "/v1/repo", {"repo_name": ".."}, 422, "'..'"),
        ("post", "/v1/repo", {"repo_name": 5}, 422, "repo_name"),
        ("post", "/v1/repo", {}, 422, "repo_name"),
        ("post", "/v1/repo", {"repo_name": "x", "colour": 1}, 422, "colour"),
        ("post", "/v1/repo", [], 422, "object"),
        ("post", "/v1/repo", None, 422, "body: a JSON body is needed"),
        ("post", "/v1/repo", {"repo_name": "x", "base_model": "x/" * 300}, 422, "at most 515"),
        ("get", "/v1/repo?limit=abc", None, 422, "query.limit: Expected `int | null`, got `str`: 'abc'"),
        ("put", "/v1/repo/repo/prompts/p", {"messages": [5]}, 422, "messages.0"),
        ("put", "/v1/repo/repo/prompts/p", {"messages": "hello"}, 422, "messages"),
        ("put", "/v1/repo/repo/prompts/p", {"messages": [{"content": "x"}]}, 422, "role"),
        ("put", "/v1/repo/repo/prompts/batch", {"messages": []}, 422, "messages"),
        ("post", "/v1/repo/repo/prompts", {"prompt_name": "batch", "messages": []}, 422, "reserved"),
        ("post", "/v1/repo/repo/prompts/batch", {"prompts": []}, 422, "prompts"),
        ("post", "/v1/repo/repo/targets/batch", {"targets": {}}, 422, "targets"),
        ("post", "/v1/repo/repo/targets/batch", {"targets": [{"template": "default"}]}, 422, "targets.0.target_name"),
        ("post", "/v1/repo/repo/bakes/batch", {"bakes": [7]}, 422, "bakes"),
        ("post", "/v1/repo/gone/bakes/batch", {"bakes": []}, 404, "'gone'"),
        ("get", "/v1/repo/gone/tree", None, 404, "'gone'"),
        ("get", "/v1/repo/repo/recipe/gone/dependency-graph", None, 404, "'gone'"),
        ("get", "/v1/repo/repo/recipe/gone/recreation-plan", None, 404, "'gone'"),
        ("put", "/v1/repo/repo/targets/t", {"overrides": {}}, 422, "template"),
        ("put", "/v1/repo/repo/targets/t", {"template": "gone"}, 404, "'gone'"),
        ("put", "/v1/repo/repo/targets/t", {"template": "default", "overrides": {"temperature": 2.1}}, 422, "2.0"),
        ("put", "/v1/repo/repo/targets/t", {"template": "default", "overrides": {"colour": 1}}, 422, "colour"),
        (
            "put",
            "/v1/repo/repo/targets/t",
            {"template": "default", "overrides": {"generators": [{"type": "magic"}]}},
            422,
            "allowed: hardcoded, oneshot_qs, persona, from_dataset, custom",
        ),
        (
            "put",
            "/v1/repo/repo/targets/t",
            {"template": "default", "overrides": {"generators": [{"type": "from_dataset", "dataset": "../x"}]}},
            422,
            "never a path",
        ),
        ("put", "/v1/repo/repo/bakes/b", {"template": "default", "overrides": {"epochs": 0}}, 422, "epochs"),
        (
            "put",
            "/v1/repo/repo/bakes/b",
            {"template": "default", "overrides": {"scheduler": {"lr": 1}}},
            422,
            "set optimizer.learning_rate",
        ),
        (
            "put",
            "/v1/repo/repo/bakes/b",
            {"template": "default", "overrides": {"model": {"peft_config": {"use_dora": True}}}},
            422,
            "use_dora",
        ),
        (
            "put",
            "/v1/repo/repo/bakes/b",
            {"template": "default", "overrides": {"datasets": [{"target": "gone"}]}},
            404,
            "'gone'",
        ),
        ("post", "/v1/repo/repo/targets/target/rollout", None, 400, "run stim first"),
        ("get", "/v1/repo/repo/targets/target/stim/output?limit=1001", None, 422, "1000, got '1001'"),
        ("get", "/v1/repo/repo/targets/target/stim/output?limit=0", None, 422, "1"),
        ("get", "/v1/repo/repo/targets/target/stim/output?offset=-1", None, 422, "0"),
        ("get", "/v1/repo/repo/targets/target/stim/output?limit=many", None, 422, "int"),
        ("get", "/v1/repo?user_id=bob", None, 404, "'bob'"),
    ],
)
async def test_wrong_requests_are_refused_in_one_shape(
    client: Client, method: str, path: str, body: Any, status: int, word: str
) -> None:
    await fill(client)
    answer = await client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert word in answer.json()["message"]
    assert answer.json()["code"]
    assert "Traceback" not in answer.text
    listed = (await client.get("/v1/repo/repo/targets")).json()["targets"]
    assert listed == ["target"], "a refused request changes nothing"


@pytest.mark.parametrize(
    "name", ["..", "../x", "a/../../x", "/etc/x", "nul\0", "C:\\x", "two\nlines", "", ".x", "%2e%2e"]
)
async def test_no_hostile_name_reaches_the_disk(client: Client, services: Services, name: str) -> None:
    await fill(client)
    template = {"type": "custom", "template_path": f"x/{name}/..", "template_content": "Ask"}
    dataset = {"type": "from_dataset", "dataset": name}
    before = sorted(services.home.parent.rglob("*"))
    asked = [
        await client.post("/v1/repo", json={"repo_name": name}),
        await client.post("/v1/repo/repo/prompts", json={"prompt_name": name, "messages": []}),
        await client.post("/v1/repo/repo/targets", json={"target_name": name, "template": "default"}),
        await client.post("/v1/repo/repo/bakes", json={"bake_name": name, "template": "default"}),
        await client.post("/v1/admin/users", json={**new_user("x"), "user_id": name}),
        *[
            await client.post(
                "/v1/repo/repo/targets",
                json={"target_name": "t", "template": "default", "overrides": {"generators": [generator]}},
            )
            for generator in (template, dataset)
        ],
    ]
    assert [answer.status_code for answer in asked] == [422] * len(asked), [answer.text for answer in asked]
    batch = await client.post("/v1/repo/repo/prompts/batch", json={"prompts": {name: []}})
    assert list(batch.json()["failed"]) == [name]
    assert sorted(services.home.parent.rglob("*")) == before


async def test_a_broken_or_huge_body_is_refused(client: Client) -> None:
    headers = {"Content-Type": "application/json"}
    broken = await client.post("/v1/repo", content=b'{"repo_name": ', headers=headers)
    assert (broken.status_code, "JSON" in broken.json()["message"]) == (400, True)
    for body in (b'{"repo_name": "\xff"}', b'{"repo_name": ' + b"[" * 100_000):
        odd = await client.post("/v1/repo", content=body, headers=headers)
        assert (odd.status_code, "JSON" in odd.json()["message"]) == (400, True)
    huge = await client.put("/v1/repo/repo/prompts/p", content=b" " * (1 << 20) + b"{}", headers=headers)
    assert (huge.status_code, huge.json()["code"]) == (413, "BODY_TOO_LARGE")
    assert (await client.get("/v1/repo")).json()["repos"] == []
