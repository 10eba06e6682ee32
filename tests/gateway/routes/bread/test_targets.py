"""Targets, stim and rollout over HTTP, with a fake engine."""

import itertools
from typing import Any

import pytest

from tests.gateway.application import Client
from tests.gateway.routes.bread.filled import fill

pytestmark = pytest.mark.anyio


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
    created = await client.post("/v1/repo/repo/targets", json=body)
    assert created.status_code == 201, created.text
    assert created.json()["config"]["generators"] == [
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
