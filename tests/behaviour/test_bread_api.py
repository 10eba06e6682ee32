"""The Bread routes over HTTP with a fake engine: shapes, status codes, refusals.

The unmodified clients use the real service in tests/behaviour/test_first_bake.py and tests/clients.
"""

import itertools
from typing import Any

import pytest

from gateway.services import Services
from tests.gateway.application import Client, finish_bake, make_bake, new_user

pytestmark = pytest.mark.anyio


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


async def test_a_conflict_asks_clients_not_to_retry(client: Client) -> None:
    await client.put("/v1/repo", json={"repo_name": "repo"})
    refused = await client.put("/v1/repo", json={"repo_name": "repo", "base_model": "Other/Model"})
    assert refused.status_code == 409
    assert refused.headers["x-should-retry"] == "false"
    assert refused.json()["code"] == "RESOURCE_CONFLICT"
    assert refused.json()["message"] == refused.json()["error"]


async def test_prompts_are_created_changed_listed_and_deleted(client: Client) -> None:
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
    assert (config["max_concurrency"], config["num_traj_per_stimulus"], config["max_tokens"]) == (10, 1, None)
    assert config["generators"] == [{"type": "hardcoded", "questions": ["One?", "Two?", "Three?"]}]


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
    assert rollout["config"]["max_tokens"] == 192, "the embedded model's default is shown"
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


async def test_a_targets_generators_are_shown_as_they_will_be_run(client: Client) -> None:
    await fill(client)
    generators = [
        {"type": "hardcoded", "questions": ["One?"], "temperature": 0.5, "seed": None},
        {"type": "persona", "numq": 3, "rollout_with_conditioned": True},
        {"type": "custom", "template_path": "../q.txt", "template_content": "${numq} of them"},
    ]
    overrides = {"u": "loud", "v": "loud", "generators": generators}
    body = {"target_name": "mixed", "template": "default", "overrides": overrides}
    made = await client.post("/v1/repo/repo/targets", json=body)
    assert made.status_code == 201, made.text
    assert made.json()["config"]["generators"] == [
        {"type": "hardcoded", "questions": ["One?"], "temperature": 0.5},
        {"type": "persona", "numq": 3, "seed": 42, "rollout_with_conditioned": True},
        {"type": "custom", "numq": 10, "temperature": 1.0, "template_path": "templates/q.txt"},
    ]
    assert (await client.post("/v1/repo/repo/targets", json=body)).status_code == 200


async def test_conditioned_stimuli_show_what_the_student_reads(client: Client) -> None:
    await fill(client)
    generators = [
        {"type": "hardcoded", "questions": ["One?"], "temperature": 0.5},
        {"type": "hardcoded", "questions": ["Two?"], "rollout_with_conditioned": True},
    ]
    overrides = {"u": "plain", "v": "loud", "generators": generators}
    await client.put("/v1/repo/repo/targets/mixed", json={"template": "default", "overrides": overrides})
    stim = (await client.post("/v1/repo/repo/targets/mixed/stim")).json()
    assert stim["warnings"] == ["generators[0] is hardcoded: temperature has no effect"]
    first, second = (await client.get("/v1/repo/repo/targets/mixed/stim/output")).json()["output"]
    assert first == {"stimulus_id": 0, "question": "One?", "stimulus": "One?", "generator": "hardcoded"}
    assert second["trajectory_override_stimulus"] == "system: Be loud\nuser: Two?"


async def test_six_hundred_persona_questions_are_generated_at_once(client: Client) -> None:
    await fill(client)
    overrides = {"u": "loud", "v": "plain", "generators": [{"type": "persona", "numq": 600, "temperature": 1.0}]}
    await client.put("/v1/repo/repo/targets/yoda", json={"template": "default", "overrides": overrides})
    stim = (await client.post("/v1/repo/repo/targets/yoda/stim")).json()
    assert (stim["status"], stim["lines"], stim["warnings"]) == ("complete", 600, [])
    rows = (await client.get("/v1/repo/repo/targets/yoda/stim/output?limit=1000")).json()["output"]
    assert len({row["question"] for row in rows}) == 600


async def test_every_page_is_the_right_part_of_the_output(client: Client) -> None:
    await fill(client)
    names = [f"Question {number}?" for number in range(5)]
    overrides = {"u": "loud", "v": "plain", "generators": [{"type": "hardcoded", "questions": names}]}
    await client.put("/v1/repo/repo/targets/target", json={"template": "default", "overrides": overrides})
    for stage in ("stim", "rollout"):
        done = await client.post(f"/v1/repo/repo/targets/target/{stage}")
        assert done.json()["status"] == "complete"
    for name in ("b", "a", "d", "c"):
        await client.post("/v1/repo", json={"repo_name": name})
    for path, rows in (
        ("/v1/repo/repo/targets/target/stim/output", "output"),
        ("/v1/repo/repo/targets/target/rollout/output", "output"),
        ("/v1/repo", "repos"),
    ):
        whole = (await client.get(path, params={"include_metadata": True, "limit": 1000})).json()[rows]
        assert len(whole) == 5
        for offset, limit in itertools.product(range(7), range(1, 8)):
            asked = {"include_metadata": True, "offset": offset, "limit": limit}
            page = (await client.get(path, params=asked)).json()
            assert page[rows] == whole[offset : offset + limit], asked
            assert (page["offset"], page["limit"]) == (offset, limit)
            assert page["has_more"] is (offset + limit < 5), asked
    stimuli = (await client.get("/v1/repo/repo/targets/target/stim/output")).json()["output"]
    assert [row["question"] for row in stimuli] == names
    assert [row["stimulus_id"] for row in stimuli] == list(range(5))


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


async def test_lineage_is_shown_as_a_graph_a_plan_and_a_tree(client: Client) -> None:
    await fill(client)
    overrides = {"datasets": [{"target": "target", "weight": 1.0}]}
    await client.post("/v1/repo/repo/bakes", json={"bake_name": "bake", "template": "default", "overrides": overrides})
    graph = (await client.get("/v1/repo/repo/recipe/bake/dependency-graph")).json()
    assert graph["edges"] == [
        ["bake", "bake", "target", "target"],
        ["target", "target", "prompt", "loud"],
        ["target", "target", "prompt", "plain"],
    ]
    assert graph["prompts"] == {"loud": "prompts/loud.yml", "plain": "prompts/plain.yml"}
    assert graph["bakes"]["bake"]["datasets"] == overrides["datasets"]
    assert "u" not in graph["targets"]["target"]
    plan = (await client.get("/v1/repo/repo/recipe/bake/recreation-plan")).json()
    assert [step["step"] for step in plan["steps"]] == list(range(1, plan["total_steps"] + 1))
    assert plan["resources"]["bakes"] == [{"bake_name": "bake", "model_names": [], "name": "bake", "model_name": None}]
    tree = (await client.get("/v1/repo/repo/tree")).json()
    assert (tree["bakes"]["bake"]["status"], tree["bakes"]["bake"]["model_name"], tree["edges"]) == ("pending", [], [])


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
        ("post", "/v1/repo", None, 422, "body: a JSON body is needed"),
        ("post", "/v1/repo", {"repo_name": "x", "base_model": "x/" * 300}, 422, "at most 515"),
        ("get", "/v1/repo?limit=abc", None, 422, "query.limit: Expected `int | null`, got `str`: 'abc'"),
        ("put", "/v1/repo/repo/prompts/p", {"messages": [5]}, 422, "body.messages.0"),
        ("put", "/v1/repo/repo/prompts/p", {"messages": "hello"}, 422, "messages"),
        ("put", "/v1/repo/repo/prompts/p", {"messages": [{"content": "x"}]}, 422, "role"),
        ("put", "/v1/repo/repo/prompts/batch", {"messages": []}, 422, "messages"),
        ("post", "/v1/repo/repo/prompts", {"prompt_name": "batch", "messages": []}, 422, "reserved"),
        ("post", "/v1/repo/repo/prompts/batch", {"prompts": []}, 422, "prompts"),
        ("post", "/v1/repo/repo/targets/batch", {"targets": {}}, 422, "targets"),
        ("post", "/v1/repo/repo/targets/batch", {"targets": [{"template": "default"}]}, 422, "targets[0].target_name"),
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


async def test_true_and_1_are_different_in_a_prompt(client: Client) -> None:
    await client.put("/v1/repo", json={"repo_name": "repo"})
    for strict in (1, True, 1):
        tools = [{"type": "function", "function": {"name": "f", "strict": strict}}]
        done = await client.put("/v1/repo/repo/prompts/p", json={"messages": [], "tools": tools})
        assert done.json()["tools"][0]["function"]["strict"] is strict


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


async def test_the_curves_of_a_bake_are_a_picture_when_they_are_drawn(client: Client, services: Services) -> None:
    await make_bake(client, "admin")
    path = "/v1/repo/repo/bakes/bake/metrics.png"
    assert (await client.get(path)).status_code == 404
    folder = await finish_bake(services, "admin")
    early = await client.get(path)
    assert early.status_code == 404 and "not drawn yet" in early.json()["message"]
    (folder / "metrics.png").write_bytes(b"\x89PNG and so on")
    drawn = await client.get(path)
    assert (drawn.content, drawn.headers["content-type"]) == (b"\x89PNG and so on", "image/png")
