"""Recipes as lines, and their diff."""

import difflib

import pytest

from baker.comparison.recipe_text import recipe_diff, recipe_lines
from baker.comparison.versions import BASE_VERSION, Version
from baker.config.bake import BakeConfig
from baker.config.target import TargetConfig
from baker.repos.catalog import Catalog
from baker.status import JobState
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs, ReceivedCommit, TargetSnapshot
from baker.types import Checkpoint, Prompt
from baker.versions.commits import recipe_of
from tests.baker.grown import baked, merged


def version(catalog: Catalog, name: str, prompt: str, *, epochs: int = 3, imported: str | None = None) -> Version:
    teacher = Prompt([{"role": "system", "content": prompt}])
    snapshot = TargetSnapshot(TargetConfig(teacher_prompt="p"), teacher, Prompt(), templates={"t": "ask\nthis"})
    config = BakeConfig(epochs=epochs)
    inputs = BakeInputs({}, None, targets={"talk": snapshot}, imported=imported)
    job = BakeJob(user="admin", repo="repo", name=name, state=JobState.COMPLETE, config=config, inputs=inputs)
    job = catalog.store.jobs.add(job)
    path = catalog.store.home / name
    return Version(name * 64, None, Checkpoint("admin", "repo", name, 1, path, "0" * 64, 0, job.id))


def test_changed_prompts_and_settings_are_the_changed_lines(catalog: Catalog) -> None:
    a = version(catalog, "a", "You are Yoda.\nSpeak so.")
    b = version(catalog, "b", "You are Yoda.\nSpeak \x1b[31mthus.", epochs=4)
    text = recipe_diff(catalog, a, b)
    assert text.startswith("--- aaaaaaaaaaaa\n+++ bbbbbbbbbbbb\n@@ ")
    changed = [line for line in text.splitlines()[2:] if line[0] in "+-"]
    assert changed == ["-  epochs: 3", "+  epochs: 4", "-    Speak so.", "+    Speak \x1b[31mthus."]
    restored = difflib.unified_diff(recipe_lines(catalog, a), recipe_lines(catalog, b), lineterm="")
    assert list(restored)[2:] == text.splitlines()[2:]
    assert recipe_diff(catalog, a, a) == ""


def test_prompts_are_written_as_text(catalog: Catalog) -> None:
    lines = recipe_lines(catalog, version(catalog, "a", "You are Yoda.\nSpeak so."))
    start = lines.index("target talk: teacher prompt")
    assert lines[start + 1 : start + 4] == ["  system:", "    You are Yoda.", "    Speak so."]
    start = lines.index("target talk: template t")
    assert lines[start + 1 :] == ["  ask", "  this"]


def test_the_base_model_has_no_recipe_and_an_imports_is_not_known(catalog: Catalog) -> None:
    a, imported = version(catalog, "a", "Hi"), version(catalog, "b", "Hi", imported="/somewhere")
    assert recipe_lines(catalog, BASE_VERSION) == []
    assert recipe_lines(catalog, imported) == ["its recipe is not known: it was imported, or sent without it"]
    added = recipe_diff(catalog, BASE_VERSION, a).splitlines()[3:]
    assert added == [f"+{line}" for line in recipe_lines(catalog, a)]


@pytest.mark.parametrize("content", [None, [{"type": "text", "text": "Hi"}]])
def test_messages_without_plain_text_are_shown_as_json(catalog: Catalog, content: object) -> None:
    a = version(catalog, "a", content)  # type: ignore[arg-type]
    assert "  system:" in recipe_lines(catalog, a)


@pytest.mark.parametrize(
    ("recipe", "lines"),
    [
        ({"by": "hand"}, ['by: "hand"']),
        ({"config": {}, "targets": []}, ["config: {}", "targets: []"]),
        ({"config": {}, "targets": {"talk": {"config": 1}}}, ["config: {}", "targets.talk.config: 1"]),
    ],
)
def test_a_recipe_of_another_server_may_have_another_form(
    catalog: Catalog, recipe: dict[str, object], lines: list[str]
) -> None:
    inputs = BakeInputs({}, None, received=ReceivedCommit("c" * 64, recipe))
    job = catalog.store.jobs.add(BakeJob(user="admin", repo="repo", name="x", config=BakeConfig(), inputs=inputs))
    assert recipe_of(job) == recipe
    checkpoint = Checkpoint("admin", "repo", "x", 0, catalog.store.home, "0" * 64, 0, job.id)
    assert recipe_lines(catalog, Version("c" * 64, None, checkpoint)) == lines


def test_the_recipe_of_a_merge_names_the_versions_that_it_merged(catalog: Catalog) -> None:
    sides = [baked(catalog, name).commit_id for name in ("a", "b", "c")]
    texts = []
    for name, other in (("first", "b"), ("second", "c")):
        merge = merged(catalog, name, "a", other)
        commit = catalog.history.commits.find("admin", "repo", merge.commit_id or "")
        texts.append(recipe_lines(catalog, Version(merge.commit_id or "", commit, merge)))
    lines = texts[0]
    start = lines.index("merge: merge, auto")
    assert lines[start + 1 : start + 4] == [
        "  base: the base model",
        f"  version: {sides[0]}, weight 1",
        f"  version: {sides[1]}, weight 1",
    ]
    assert {line for line in lines if line not in texts[1]} == {
        f"  version: {sides[1]}, weight 1",
        '  merge.others: ["b"]',
    }
