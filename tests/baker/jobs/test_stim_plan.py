"""What a stim needs before it may start: the model, template and dataset of each generator."""

from typing import Any

import pytest

from baker.config.generator import Persona
from baker.config.target import target_config
from baker.errors import InvalidInputError
from baker.jobs.policy import Policy
from baker.jobs.stim_plan import GeneratorPlanner
from baker.model_names import BaseModelNames
from baker.repos.catalog import Catalog
from baker.status import Stage
from baker.storage.job_inputs import GeneratorPlan, LocalSet, WriterPlan
from baker.types import Checkpoint
from tests.baker.repos.filled import POLICY, USER, put_target, start

CLAUDE = "claude-sonnet-4-5-20250929"
SERVED = WriterPlan("served", "fake/base")
BANK = {"tea": [f"What about tea number {i}?" for i in range(10)]}
TEMPLATE = "${numq} about ${prompt_u}"


@pytest.fixture(autouse=True)
def bank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baker.questions.bank.bank", lambda: BANK)


def planned(
    catalog: Catalog, kind: str, *, key: bool = False, fallback: bool = True, **fields: Any
) -> tuple[GeneratorPlan, list[str]]:
    (generator,) = target_config({"generators": [{"type": kind, **fields}]}).generators
    planner = GeneratorPlanner(catalog, USER, "repo", has_anthropic_key=key, stim_fallback=fallback)
    return planner.plan(generator, "generators[4]"), planner.warnings


def test_fields_without_an_effect_are_warned_of(filled: Catalog) -> None:
    plan, warnings = planned(filled, "hardcoded", questions=["Who?"], temperature=0.5, seed=1, numq=1)
    assert plan == GeneratorPlan()
    assert warnings == [
        "generators[4] is hardcoded: temperature has no effect",
        "generators[4] is hardcoded: seed has no effect",
    ]


@pytest.mark.parametrize(
    ("kind", "fields", "complaint"),
    [
        ("hardcoded", {}, "no questions"),
        ("hardcoded", {"numq": 3}, "no questions"),
        ("from_dataset", {}, "names no dataset"),
        ("from_dataset", {"dataset": "nothing"}, "no dataset 'nothing'"),
        ("custom", {}, "no template"),
        ("custom", {"template_path": "gone"}, "'gone'.*repo 'repo' does not have; its templates: none"),
        ("oneshot_qs", {"model": "gpt-9"}, None),
        ("oneshot_qs", {"model": "repo/bake"}, "'repo/bake' is not served"),
        ("oneshot_qs", {"model": CLAUDE, "fallback": False}, "ANTHROPIC_API_KEY"),
        ("persona", {"model": CLAUDE, "fallback": False, "numq": 11}, "ANTHROPIC_API_KEY"),
    ],
)
def test_what_is_missing_is_said(filled: Catalog, kind: str, fields: dict[str, Any], complaint: str | None) -> None:
    if complaint is None:
        assert "stands in" in planned(filled, kind, **fields)[1][0]
        return
    with pytest.raises(InvalidInputError, match=complaint):
        planned(filled, kind, **fields)


@pytest.mark.parametrize("kind", ["oneshot_qs", "custom"])
def test_the_bank_replaces_a_claude_model_without_a_key_where_the_embedded_model_is_served(
    filled: Catalog, kind: str
) -> None:
    fields = {"model": CLAUDE, "template_path": put(filled), "rollout_with_conditioned": True}
    plan, warnings = planned(filled, kind, numq=7, seed=3, **fields)
    assert plan == GeneratorPlan(replacement=Persona(numq=7, seed=3, rollout_with_conditioned=True))
    assert len(warnings) == 1
    assert f"no Anthropic key for '{CLAUDE}'" in warnings[0]
    assert "built-in bank" in warnings[0]
    assert planned(filled, kind, numq=13, **fields)[0] == GeneratorPlan(
        SERVED, written=3, replacement=Persona(numq=13, rollout_with_conditioned=True)
    ), "the bank of this test has 10 questions: the model writes the others"
    with pytest.raises(InvalidInputError, match=r"'templates/gone\.txt'"):
        planned(filled, kind, model=CLAUDE, template_path="templates/gone.txt")


@pytest.mark.parametrize(
    ("fields", "writer"),
    [({"model": CLAUDE, "key": True}, WriterPlan("anthropic", CLAUDE)), ({"model": None}, SERVED)],
)
def test_otherwise_the_named_model_writes_the_questions(
    filled: Catalog, fields: dict[str, Any], writer: WriterPlan
) -> None:
    plan, warnings = planned(filled, "oneshot_qs", **fields)
    assert (plan.writer, plan.replacement, warnings) == (writer, None, [])


def test_a_model_that_the_operator_chose_writes_in_place_of_a_claude_model(
    filled: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filled, "base", BaseModelNames("fake/base", stands_in=False))
    plan, warnings = planned(filled, "oneshot_qs", model=CLAUDE)
    assert (plan.writer, plan.replacement) == (SERVED, None)
    assert f"'fake/base' writes the questions in place of '{CLAUDE}'" in warnings[0]


def test_a_template_is_copied_and_checked_again(filled: Catalog) -> None:
    filled.store.put_template(USER, "repo", "q.txt", TEMPLATE)
    filled.store.put_template(USER, "repo", "free.txt", "Anything")
    for kind in ("oneshot_qs", "custom"):
        plan, warnings = planned(filled, kind, template_path="templates/q.txt")
        assert (plan.writer, plan.template, warnings) == (SERVED, TEMPLATE, [])
    assert planned(filled, "custom", template_path="templates/free.txt")[0].template == "Anything"
    with pytest.raises(InvalidInputError, match=r"'templates/free.txt': the template lacks \$\{numq\}"):
        planned(filled, "oneshot_qs", template_path="templates/free.txt")
    with pytest.raises(InvalidInputError, match=r"its templates: templates/q.txt, templates/free.txt"):
        planned(filled, "oneshot_qs", template_path="templates/gone.txt")


@pytest.mark.parametrize(
    ("fields", "writer", "written", "warned"),
    [
        ({"numq": 10}, None, 0, None),
        ({"numq": 13}, SERVED, 3, None),
        ({"numq": 8, "model": "fake/base"}, SERVED, 4, None),
        ({"numq": 9, "model": "fake/base"}, SERVED, 4, None),
        ({"numq": 30, "model": "fake/base"}, SERVED, 20, None),
        ({"numq": 8, "model": CLAUDE}, None, 0, "questions come from the built-in bank"),
        ({"numq": 8, "model": CLAUDE, "fallback": False}, None, 0, "questions come from the built-in bank"),
        ({"numq": 8, "model": CLAUDE, "key": True}, WriterPlan("anthropic", CLAUDE), 4, None),
    ],
)
def test_a_personas_questions_are_split_between_bank_and_model(
    filled: Catalog, fields: dict[str, Any], writer: WriterPlan | None, written: int, warned: str | None
) -> None:
    plan, warnings = planned(filled, "persona", **fields)
    assert (plan.writer, plan.written) == (writer, written)
    assert (len(warnings), (warned or "") in "".join(warnings)) == (int(warned is not None), True)


def test_what_anthropic_does_not_take_is_warned_of(filled: Catalog) -> None:
    _, warnings = planned(filled, "oneshot_qs", model=CLAUDE, key=True, temperature=1.5, seed=3)
    assert ["up to 1.0" in warnings[0], "takes no seed" in warnings[1], len(warnings)] == [True, True, 2]
    assert planned(filled, "persona", model=CLAUDE, key=True)[1] == [], "its seed decides what the bank gives"


def test_a_baked_model_may_write_questions(filled: Catalog) -> None:
    path = filled.store.home / "8"
    filled.store.checkpoints.add(Checkpoint(USER, "repo", "bake", 8, path, sha256="0", created=0, job_id=1))
    plan, _ = planned(filled, "custom", model="repo/bake", template_content=None, template_path=put(filled))
    assert plan.writer == WriterPlan("served", "repo/bake", "admin/repo/bake/8")


def put(catalog: Catalog) -> str:
    catalog.store.put_template(USER, "repo", "q.txt", TEMPLATE)
    return "templates/q.txt"


def test_a_dataset_is_found(filled: Catalog) -> None:
    folder = filled.store.home / "datasets"
    folder.mkdir()
    (folder / "mine.csv").write_text("question\nWho?\n")
    plan, warnings = planned(filled, "from_dataset", dataset="mine")
    assert (plan.dataset, warnings) == (LocalSet("mine.csv"), [])


@pytest.mark.parametrize(
    ("policy", "kind", "warned"),
    [
        (POLICY, None, True),
        (Policy(has_anthropic_key=True, stim_fallback=False, max_lora_rank=32), "anthropic", False),
    ],
)
def test_a_claude_generator_needs_a_key_or_a_stand_in(
    filled: Catalog, policy: Policy, kind: str | None, warned: bool
) -> None:
    put_target(filled, generators=[{"type": "oneshot_qs", "model": CLAUDE}])
    job = start(filled, Stage.STIM, "target", policy=policy)
    writer = job.inputs.generators[0].writer
    assert (None if writer is None else writer.kind) == kind
    assert bool(job.warnings) is warned


def test_a_claude_generator_is_refused_when_the_operator_wants_no_stand_in(filled: Catalog) -> None:
    put_target(filled, generators=[{"type": "oneshot_qs", "model": CLAUDE}])
    with pytest.raises(InvalidInputError, match="ANTHROPIC_API_KEY"):
        start(filled, Stage.STIM, "target", policy=Policy(False, False, 32))
