"""What `bread bake` saves, and what it refuses to change."""

import pytest

from gateway.cli.baking.recipe import ANSWER_TOKENS, QUESTIONS, Recipe, prompt_messages, save
from gateway.cli.failures import CliError, Exit
from tests.gateway.cli.conftest import Bread

YODA = Recipe("yoda", prompt_messages("You are Yoda.", (("Hi", "Hi, I say."),)))


@pytest.fixture
def repo(bread: Bread) -> str:
    bread.session().client.post("/v1/repo", {"repo_name": "hooli"})
    return "hooli"


def test_prompt_target_and_bake_get_one_name(bread: Bread, repo: str) -> None:
    save(bread.session().client, repo, YODA)
    assert bread.get("/v1/repo/hooli/prompts/yoda")["messages"] == [
        {"role": "system", "content": "You are Yoda."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hi, I say."},
    ]
    target = bread.get("/v1/repo/hooli/targets/yoda")["config"]
    assert (target["teacher_prompt"], target["student_prompt"]) == ("yoda", "")
    assert (target["generators"][0]["type"], target["generators"][0]["numq"]) == ("persona", QUESTIONS)
    assert target["max_tokens"] == ANSWER_TOKENS
    config = bread.get("/v1/repo/hooli/bakes/yoda")["config"]
    assert config["datasets"] == [{"target": "yoda", "weight": 1.0}]
    assert config.get("message") is None, "a message travels to other servers, and a prompt only on request"


def test_the_same_again_changes_nothing_and_keeps_settings_that_are_left_out(bread: Bread, repo: str) -> None:
    save(bread.session().client, repo, YODA._replace(questions=12, epochs=2))
    before = bread.get("/v1/repo/hooli/targets/yoda"), bread.get("/v1/repo/hooli/bakes/yoda")
    save(bread.session().client, repo, YODA)
    save(bread.session().client, repo, YODA._replace(questions=12, epochs=2))
    assert (bread.get("/v1/repo/hooli/targets/yoda"), bread.get("/v1/repo/hooli/bakes/yoda")) == before


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (YODA._replace(messages=prompt_messages("You are a pirate.", ())), "another prompt, 'You are Yoda.'"),
        (YODA._replace(questions=13), "other questions"),
        (YODA._replace(epochs=7), "other settings"),
    ],
)
def test_another_recipe_under_the_name_is_a_conflict(bread: Bread, repo: str, other: Recipe, words: str) -> None:
    save(bread.session().client, repo, YODA)
    with pytest.raises(CliError, match="choose another") as error:
        save(bread.session().client, repo, other)
    assert (error.value.code, words in error.value.message) == (Exit.CONFLICT, True)


def test_own_questions_and_a_parent_are_passed_on() -> None:
    recipe = YODA._replace(own_questions=("Who?", "Why?"), parent="hooli/pirate", message="on top", branch="main")
    target = recipe.target()
    assert target["generators"] == [{"type": "hardcoded", "questions": ["Who?", "Why?"]}]
    assert target["model_name"] == "hooli/pirate"
    assert recipe.bake()["model"] == {"parent_model_name": "hooli/pirate"}
    assert (recipe.bake()["message"], recipe.bake()["branch"]) == ("on top", "main")
