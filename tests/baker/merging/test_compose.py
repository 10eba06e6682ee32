"""Prompts that are joined."""

import pytest

from baker.config.target import TargetConfig
from baker.errors import ConflictError, InvalidInputError
from baker.merging.compose import add_sources, joined_prompt
from baker.repos import prompts, targets
from baker.repos.catalog import Catalog
from baker.storage.job_inputs import MergeInputs, MergeSide, TargetSnapshot
from baker.types import Checkpoint, Prompt
from tests.baker.grown import baked

PIRATE = Prompt([{"role": "system", "content": "Be a pirate."}, {"role": "user", "content": "Hi"}])
JSON = Prompt([{"role": "system", "content": "Answer in JSON."}], [{"type": "function", "function": {"name": "f"}}])


def test_system_texts_become_one_message() -> None:
    assert joined_prompt([PIRATE, JSON, PIRATE]) == Prompt(
        [{"role": "system", "content": "Be a pirate.\n\nAnswer in JSON."}, {"role": "user", "content": "Hi"}],
        JSON.tools,
    )
    assert joined_prompt([Prompt([{"role": "user", "content": "Hi"}])]).messages == [{"role": "user", "content": "Hi"}]


def test_system_texts_in_parts_are_read() -> None:
    parts = [{"type": "text", "text": "Be a pirate."}]
    prompt = Prompt([{"role": "system", "content": parts}, {"role": "user", "content": parts}])
    assert joined_prompt([prompt, JSON]).messages == [
        {"role": "system", "content": "Be a pirate.\n\nAnswer in JSON."},
        {"role": "user", "content": parts},
    ]


def prompted(catalog: Catalog, name: str, prompt: Prompt) -> Checkpoint:
    made = baked(catalog, name)
    job = catalog.store.jobs.find_bake(made.job_id)
    assert job is not None
    snapshot = TargetSnapshot(TargetConfig(), prompt, Prompt())
    inputs = job.inputs
    inputs.targets[name] = snapshot
    catalog.store.jobs.update(job.id, inputs=inputs)
    return made


def inputs_of(*sides: Checkpoint) -> MergeInputs:
    return MergeInputs(
        [MergeSide(each.bake, each.commit_id or "", each.name, 1.0, [each.job_id]) for each in sides], None, None
    )


def test_the_joined_prompt_and_its_questions_become_a_target(catalog: Catalog) -> None:
    inputs = inputs_of(prompted(catalog, "pirate", PIRATE), prompted(catalog, "json", JSON))
    for _ in range(2):  # the same again changes nothing
        add_sources(catalog, "admin", "repo", "both", inputs, ["a?", "b?"])
    assert prompts.get(catalog, "admin", "repo", "both") == joined_prompt([PIRATE, JSON])
    target = targets.get(catalog, "admin", "repo", "both")
    assert (target.teacher_prompt, target.model_name) == ("both", catalog.repo("admin", "repo").base_model)
    assert [generator.questions for generator in target.generators] == [["a?", "b?"]]  # type: ignore[union-attr]
    with pytest.raises(ConflictError):
        add_sources(catalog, "admin", "repo", "both", inputs, ["c?"])


def test_a_version_without_a_prompt_can_not_be_composed(catalog: Catalog) -> None:
    inputs = inputs_of(prompted(catalog, "pirate", PIRATE), baked(catalog, "imported"))
    with pytest.raises(InvalidInputError, match="'imported' has no prompt here"):
        add_sources(catalog, "admin", "repo", "both", inputs, ["a?"])
    with pytest.raises(InvalidInputError, match="questions are not here"):
        add_sources(catalog, "admin", "repo", "both", inputs_of(prompted(catalog, "b", JSON)), [])
