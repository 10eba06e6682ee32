"""`bread bake` up to the training, against the real application; what follows it, against given answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway.cli.conftest import Bread


def test_it_makes_what_it_needs_and_starts_all_stages(bread: Bread) -> None:
    code, out, err = bread("bake", "You are Yoda.", "--name", "yoda", "--questions", "2", "--detach")
    assert (code, out) == (0, "Started. bread logs bread/yoda -f follows it, bread cancel bread/yoda stops it.\n"), err
    assert "bread/yoda from fake/base" in err
    assert bread.get("/v1/repo/bread/targets/yoda/stim")["status"] == "complete"
    assert bread.get("/v1/repo/bread/bakes/yoda")["job_id"] is not None


def test_another_prompt_under_the_name_is_a_conflict(bread: Bread) -> None:
    bread("bake", "You are Yoda.", "--name", "yoda", "--questions", "2", "--detach")
    code, out, err = bread("bake", "You are Gollum.", "--name", "yoda", "--detach")
    assert (code, out) == (3, "")
    assert "bread/yoda is made from another prompt, 'You are Yoda.': choose another --name" in err


def test_own_questions_are_read_from_a_file(bread: Bread, tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("\ufeffWho are you?\n\n  Why? \n")
    assert (
        bread("bake", "x", "--name", "a", "--repo", "r", "--questions-from", str(path), "--detach", "--json").code == 0
    )
    generator = bread.get("/v1/repo/r/targets/a")["config"]["generators"][0]
    assert generator["questions"] == ["Who are you?", "Why?"]
    path.write_bytes(b"\xff\xfe\x00")
    assert bread("bake", "x", "--name", "b", "--questions-from", str(path)).code == 2


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_prompt_is_wrong_usage(bread: Bread, text: str) -> None:
    code, _, err = bread("bake", text, "--name", "yoda")
    assert code == 2 and "The prompt is empty" in err


def finished(loss: dict[str, float], **fields: Any) -> Callable[[httpx.Request], httpx.Response]:
    """A server on which every stage is complete."""

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/v1/chat/completions":
            model = json.loads(request.content)["model"]
            return httpx.Response(200, json={"choices": [{"message": {"content": f"I am {model}."}}]})
        if path == "/v1/repo":
            return httpx.Response(200, json={"repo_name": "bread", "base_model": "base/model", "repos": []})
        if path.endswith("/prompts/yoda"):
            return httpx.Response(404, json={"message": "none"})
        body = {"status": "complete", "loss": loss, "warnings": ["careful"], "model_name": ["u/bread/yoda/3"], **fields}
        return httpx.Response(200, json=body)

    return answer


def test_at_the_end_both_models_answer(bread_of: Any) -> None:
    code, out, err = bread_of(finished({"recovered": 0.914, "eval_kl_before": 0.5}))("bake", "x", "--name", "yoda")
    assert code == 0
    assert "91% of the prompt's effect is in the weights" in out
    assert "I am base/model." in out and "I am bread/yoda." in out and "bread chat bread/yoda --vs base" in out
    assert "note: careful" in err and "hardly changes" not in err


def test_a_weak_prompt_gets_advice_and_json_is_one_document(bread_of: Any) -> None:
    answer = finished({"recovered": 0.9, "eval_kl_before": 0.04})
    assert (
        "hardly changes what the model writes (0.04 nats per token)"
        in bread_of(answer)("bake", "x", "--name", "yoda").err
    )
    code, out, _ = bread_of(answer)("bake", "x", "--name", "yoda", "--json")
    assert (code, json.loads(out)["model_name"]) == (0, ["u/bread/yoda/3"])


def test_a_bake_that_is_held_back_is_exit_code_1(bread_of: Any) -> None:
    code, _, err = bread_of(finished({}, held_back="it drifts"))("bake", "x", "--name", "yoda")
    assert (code, "was held back: it drifts" in err) == (1, True)


@pytest.mark.parametrize(
    ("options", "settings", "origin"),
    [
        ((), {"branch": "main"}, "bread/main"),
        (("--branch", "dev"), {"branch": "dev"}, "bread/dev"),
        (("--from", "bread/old"), {"model": {"parent_model_name": "bread/old"}}, "bread/old"),
        (("--from", "base"), {"model": {"parent_model_name": "base/model"}}, "base/model"),
    ],
    ids=["current branch", "another branch", "a version", "base"],
)
def test_a_new_bake_continues_the_current_branch_unless_it_says_where_it_starts(
    bread_of: Any, options: tuple[str, ...], settings: dict[str, Any], origin: str
) -> None:
    bodies: dict[str, Any] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith("/head"):
            return httpx.Response(200, json={"branch": "main", "commit": "c" * 64})
        if path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "base/model", "root": "base/model"}]})
        if path.endswith("/bakes/yoda") and "bake" not in bodies:
            return httpx.Response(404, json={"message": "none"})
        if request.method == "POST" and path.endswith("/bakes"):
            bodies["bake"] = json.loads(request.content)["overrides"]
        return finished({"recovered": 0.9, "eval_kl_before": 0.5})(request)

    code, out, err = bread_of(answer)("bake", "x", "--name", "yoda", "--repo", "bread", *options)
    assert code == 0, err
    assert {key: value for key, value in bodies["bake"].items() if key != "datasets"} == settings
    assert f"bread/yoda from {origin}\n" in err
    compared = "bread/yoda~1" if "branch" in settings else origin
    assert f"I am {compared}." in out and "I am bread/yoda." in out
