"""The Bread routes over HTTP, around an engine with known outputs: shapes, status codes, refusals.

The unmodified clients drive the real service in tests/test_first_bake.py.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient

from baker.models import BaseModelNames
from gateway.app import build_app, build_services
from gateway.config import Settings
from tests.fakes import FakeEngine

pytestmark = pytest.mark.anyio

KEY = "sk-bread-test"
Client = AsyncTestClient[Litestar]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    engine: Any = FakeEngine()
    settings = Settings(max_body_mib=1)
    services = build_services(settings, tmp_path, KEY, engine, BaseModelNames("fake/base", stands_in=True))
    async with AsyncTestClient(build_app(services), base_url="http://gateway.local") as opened:
        opened.headers["Authorization"] = f"Bearer {KEY}"
        yield opened


async def fill(client: Client) -> None:
    await client.put("/v1/repo", json={"repo_name": "repo"})
    prompts = "/v1/repo/repo/prompts"
    await client.put(f"{prompts}/loud", json={"messages": [{"role": "system", "content": "Be loud"}]})
    await client.put(f"{prompts}/plain", json={"messages": [{"role": "user", "content": ""}]})
    questions = {"type": "hardcoded", "questions": ["One?", "Two?", "Three?"]}
    overrides = {"u": "loud", "v": "plain", "generators": [questions]}
    done = await client.put("/v1/repo/repo/targets/target", json={"template": "default", "overrides": overrides})
    assert done.status_code == 200, done.text


async def test_repos_are_listed_for_every_generation_of_clients(client: Client) -> None:
    assert (await client.get("/v1/repo")).json() == {"repos": [], "items": []}
    for name in ("b", "a", "c"):
        made = await client.post("/v1/repo", json={"repo_name": name, "base_model": "Qwen/Qwen3-32B"})
        assert (made.status_code, made.json()) == (201, {"repo_name": name, "base_model": "Qwen/Qwen3-32B"})
    assert (await client.post("/v1/repo", json={"repo_name": "a"})).status_code == 200
    listed = (await client.get("/v1/repo")).json()
    assert listed["repos"] == ["b", "a", "c"]
    assert listed["items"][0] == {"repo_name": "b", "base_model": "Qwen/Qwen3-32B"}
    page = (await client.get("/v1/repo?include_metadata=true&offset=1&limit=1")).json()
    assert page["repos"] == [{"repo_name": "a", "base_model": "Qwen/Qwen3-32B"}]
    assert (page["offset"], page["limit"], page["has_more"], page["total"]) == (1, 1, True, 3)


async def test_a_conflict_tells_clients_not_to_try_again(client: Client) -> None:
    await client.put("/v1/repo", json={"repo_name": "repo"})
    refused = await client.put("/v1/repo", json={"repo_name": "repo", "base_model": "Other/Model"})
    assert refused.status_code == 409
    assert refused.headers["x-should-retry"] == "false"
    assert refused.json()["code"] == "RESOURCE_CONFLICT"
    assert refused.json()["message"] == refused.json()["error"]


async def test_prompts_are_made_changed_listed_and_deleted(client: Client) -> None:
    await fill(client)
    messages = [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]
    made = await client.post("/v1/repo/repo/prompts", json={"prompt_name": "calls", "messages": messages})
    assert (made.status_code, made.json()["messages"], made.json()["tools"]) == (201, messages, None)
    other = await client.post("/v1/repo/repo/prompts", json={"prompt_name": "calls", "messages": []})
    assert other.status_code == 409
    assert (await client.put("/v1/repo/repo/prompts/calls", json={"messages": []})).status_code == 200
    assert (await client.get("/v1/repo/repo/prompts")).json()["prompts"] == ["loud", "plain", "calls"]
    assert (await client.delete("/v1/repo/repo/prompts/calls")).json() == {"message": "Prompt 'calls' deleted"}
    assert (await client.get("/v1/repo/repo/prompts/calls")).status_code == 404


async def test_a_target_shows_its_effective_settings_under_old_and_new_names(client: Client) -> None:
    await fill(client)
    config = (await client.get("/v1/repo/repo/targets/target")).json()["config"]
    assert (config["teacher_prompt"], config["u"], config["student_prompt"], config["v"]) == (
        "loud",
        "loud",
        "plain",
        "plain",
    )
    assert (config["max_concurrency"], config["num_traj_per_stimulus"], config["max_tokens"]) == (10, 1, 1024)
    assert config["generators"] == [{"type": "hardcoded", "questions": ["One?", "Two?", "Three?"], "numq": None}]


async def test_stim_and_rollout_run_and_are_paged(client: Client) -> None:
    await fill(client)
    target = "/v1/repo/repo/targets/target"
    before = (await client.get(f"{target}/stim/output")).json()
    assert (before["status"], before["lines"], before["output"]) == ("not_started", 0, [])
    # As the clients send it: no body, but a content type.
    stim = (await client.post(f"{target}/stim", headers={"Content-Type": "application/json"})).json()
    assert (stim["status"], stim["lines"], stim["progress_percent"]) == ("complete", 3, 100.0)
    assert stim["id"] == stim["job_id"]
    assert stim["parameters"] == stim["config"]
    rollout = (await client.post(f"{target}/rollout")).json()
    assert (rollout["status"], rollout["total_expected"]) == ("complete", 3)
    for stage, field in (("stim", "question"), ("rollout", "response")):
        rows: list[dict[str, Any]] = []
        for offset in range(0, 4, 2):
            page = (await client.get(f"{target}/{stage}/output?offset={offset}&limit=2")).json()
            assert page["has_more"] is (offset == 0)
            rows += page["output"]
        assert sorted(row["stimulus_id"] for row in rows) == [0, 1, 2]
        assert all(row[field] for row in rows)
    beyond = (await client.get(f"{target}/stim/output?offset=99")).json()
    assert (beyond["output"], beyond["has_more"]) == ([], False)


async def test_a_started_bake_waits_for_its_rollout(client: Client) -> None:
    await fill(client)
    overrides = {"datasets": [{"target": "target", "weight": 1.0}]}
    made = await client.post(
        "/v1/repo/repo/bakes", json={"bake_name": "bake", "template": "default", "overrides": overrides}
    )
    assert made.status_code == 201
    assert made.json()["status"] == "not_started"
    assert (made.json()["model_name"], made.json()["checkpoints"]) == (None, [])
    assert (await client.get("/v1/repo/repo/bakes")).json()["bakes"] == ["bake"]
    assert (await client.get("/v1/repo/repo/bakes/bake/metrics")).json() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word"),
    [
        ("get", "/v1/repo/gone", None, 404, "'gone'"),
        ("get", "/v1/repo/repo/prompts/gone", None, 404, "'gone'"),
        ("get", "/v1/repo/repo/targets/gone/stim", None, 404, "'gone'"),
        ("post", "/v1/repo/repo/targets/gone/stim", None, 404, "'gone'"),
        ("get", "/v1/repo/repo/bakes/gone/metrics", None, 404, "'gone'"),
        ("get", "/v1/nothing", None, 404, "/v1/nothing"),
        ("patch", "/v1/repo", {}, 405, "PATCH"),
        ("post", "/v1/repo", {"repo_name": "a/b"}, 422, "'/'"),
        ("post", "/v1/repo", {"repo_name": ".."}, 422, "'..'"),
        ("post", "/v1/repo", {"repo_name": 5}, 422, "repo_name"),
        ("post", "/v1/repo", {}, 422, "repo_name"),
        ("post", "/v1/repo", {"repo_name": "x", "colour": 1}, 422, "colour"),
        ("post", "/v1/repo", [], 422, "object"),
        ("put", "/v1/repo/repo/prompts/p", {"messages": "hello"}, 422, "messages"),
        ("put", "/v1/repo/repo/prompts/p", {"messages": [{"content": "x"}]}, 422, "role"),
        ("put", "/v1/repo/repo/prompts/batch", {"messages": []}, 422, "reserved"),
        ("put", "/v1/repo/repo/targets/t", {"overrides": {}}, 422, "template"),
        ("put", "/v1/repo/repo/targets/t", {"template": "gone"}, 404, "'gone'"),
        ("put", "/v1/repo/repo/targets/t", {"template": "default", "overrides": {"temperature": 2.1}}, 422, "2.0"),
        ("put", "/v1/repo/repo/targets/t", {"template": "default", "overrides": {"colour": 1}}, 422, "colour"),
        ("put", "/v1/repo/repo/bakes/b", {"template": "default", "overrides": {"epochs": 0}}, 422, "epochs"),
        (
            "put",
            "/v1/repo/repo/bakes/b",
            {"template": "default", "overrides": {"datasets": [{"target": "gone"}]}},
            404,
            "'gone'",
        ),
        ("post", "/v1/repo/repo/targets/target/rollout", None, 400, "run stim first"),
        ("get", "/v1/repo/repo/targets/target/stim/output?limit=1001", None, 422, "1000"),
        ("get", "/v1/repo/repo/targets/target/stim/output?limit=0", None, 422, "1"),
        ("get", "/v1/repo/repo/targets/target/stim/output?offset=-1", None, 422, "0"),
        ("get", "/v1/repo/repo/targets/target/stim/output?limit=many", None, 422, "int"),
        ("get", "/v1/repo?user_id=bob", None, 404, "'bob'"),
    ],
)
async def test_what_is_wrong_is_said_in_one_shape(
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


@pytest.mark.parametrize("path", ["/v1/repo", "/v1/repo/x/prompts", "/v1/repo/x/bakes/y", "/v1/models"])
@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic abc"])
async def test_no_key_or_a_wrong_one_is_401_in_the_familys_shape(client: Client, path: str, header: str) -> None:
    answer = await client.get(path, headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    error = answer.json()["error"]
    assert isinstance(error, dict if path == "/v1/models" else str)


async def test_health_needs_no_key_but_refuses_a_wrong_one(client: Client) -> None:
    del client.headers["Authorization"]
    health = await client.get("/v1/health")
    assert health.json() == {"status": "healthy", "api": "bread-api", "version": health.json()["version"]}
    assert (await client.get("/v1/health", headers={"Authorization": "Bearer wrong"})).status_code == 401
    assert (await client.get("/health")).status_code == (await client.get("/ready")).status_code == 200
    metrics = await client.get("/metrics")
    assert 'bread_jobs{state="complete"} 0.0' in metrics.text
    assert "bread_engine_ready 1.0" in metrics.text


async def test_models_are_listed_and_found(client: Client) -> None:
    models = (await client.get("/v1/models")).json()
    assert [model["id"] for model in models["data"]] == ["fake/base"]
    assert (await client.get("/v1/models/fake/base")).json()["id"] == "fake/base"
    missing = await client.get("/v1/models/repo/bake")
    assert missing.status_code == 404
    assert "fake/base" in missing.json()["error"]["message"]
