"""`bread merge` and `revert` against a real service: added up or trained, proved, and served."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from gateway.cli.failures import Exit
from tests.clients.test_cli import BAKE, REPO, Shell, baked, shell
from tests.service import RunningGateway

__all__ = ["baked", "shell"]  # fixtures

SING = ["bake", "Always sing.", "--name", "sing", *BAKE[4:], "--from", "base"]
WEIGHTS = ["-w", "1", "-w", "1"]
"""Both prompts claim the same conversation: weights say what to do if the versions contradict each other."""


@pytest.fixture(scope="module")
def both(shell: Shell, baked: str) -> dict[str, Any]:
    """`loud` and `sing`, added up."""
    done = shell.run(*SING)
    assert done.returncode == 0, done.stderr
    return merged(shell, "merge", f"{REPO}/loud", "sing", *WEIGHTS, "-s", "algebra", "-m", "a loud song")


def merged(shell: Shell, *arguments: str) -> dict[str, Any]:
    """The answer of a merge that was made, whether it was good enough or not: a random model learns little."""
    done = shell.run(*arguments, "--json")
    assert done.returncode in (Exit.OK, Exit.DIFFERS), done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode == Exit.OK) == (answer["held_back"] is None and answer["verdict"] == "passed")
    return answer


def status(gateway: RunningGateway, bake: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {gateway.key}"}
    answer: dict[str, Any] = httpx.get(f"{gateway.url}/v1/repo/{REPO}/bakes/{bake}", headers=headers).json()
    return answer


def test_the_sum_is_a_commit_with_two_parents_and_answers(
    gateway: RunningGateway, shell: Shell, both: dict[str, Any]
) -> None:
    assert (both["state"], both["strategy"], both["bake"]) == ("started", "algebra", "loud-sing")
    assert set(both["retention"]) == {"loud", "sing"}
    report = both["report"]
    assert report["energy_lost"] <= 0.05 and all(each["rows"] > 0 for each in report["retention"].values())
    commit = shell.json("show", f"{REPO}/loud-sing/0")
    parents = [shell.json("show", f"{REPO}/{name}")["id"] for name in ("loud", "sing")]
    assert (commit["kind"], commit["message"]) == ("merge", "a loud song")
    assert [parent["id"] for parent in commit["parents"]] == parents
    assert commit["notes"]["merge"]["retention"] == report["retention"]
    reply = gateway.openai().chat.completions.create(
        model=f"{REPO}/loud-sing/0", messages=[{"role": "user", "content": "Hello"}], max_tokens=4
    )
    assert reply.choices[0].message.content is not None
    listed = [model["id"] for model in shell.json("models")["data"]]
    assert (f"{REPO}/loud-sing" in listed) == (both["held_back"] is None), "a name moves only to a good merge"


def test_a_distilled_merge_trains_from_the_sum_on_the_rows_of_both(
    gateway: RunningGateway, shell: Shell, both: dict[str, Any]
) -> None:
    done = merged(shell, "merge", f"{REPO}/loud", "sing", *WEIGHTS, "-s", "distill", "--name", "distilled")
    assert done["strategy"] == "distill"
    ended = status(gateway, "distilled")
    shares = ended["collation"]["targets"]
    assert set(shares) == {"loud", "sing"}
    assert abs(shares["loud"]["trajectories"] - shares["sing"]["trajectories"]) <= 1
    assert ended["checkpoint"] > 0 and ended["eval_kl_by_target"].keys() == shares.keys()
    assert ended["merge"]["retention"].keys() == shares.keys()


def test_a_merge_that_is_asked_for_again_is_the_same(
    gateway: RunningGateway, shell: Shell, both: dict[str, Any]
) -> None:
    job = status(gateway, "loud-sing")["job_id"]
    again = merged(shell, "merge", f"{REPO}/loud", "sing", *WEIGHTS, "-s", "algebra", "-m", "a loud song")
    assert (again["bake"], again["report"]) == (both["bake"], both["report"])
    assert status(gateway, "loud-sing")["job_id"] == job


def test_a_version_is_merged_once(shell: Shell, both: dict[str, Any]) -> None:
    done = shell.run("merge", f"{REPO}/loud-sing/0", "sing", "--allow-held-back")
    assert done.returncode == Exit.OK and "already has everything of" in done.stdout
