"""Another model as student: which models may learn from the served one, and how their adapters are kept."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from baker.errors import ConflictError, InvalidInputError
from baker.jobs.queue import Jobs
from baker.repos import bakes, models
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.storage.models_folder import StudentModels
from baker.training import events, launcher
from baker.training.data.batches import make_batch
from baker.training.model.losses import forward_kl
from baker.versions import promotion
from baker.versions.model_card import Contents, model_card
from tests.baker.jobs.test_bake_stage import Publisher, Training, bake, ended, make_service, steps_kept
from tests.baker.jobs.test_queue import POLICY, USER, Service, running
from tests.baker.tiny import make_model, make_trajectories
from tests.baker.training.run.test_train import run, write_spec
from tests.fakes import FakeEngine

pytestmark = pytest.mark.anyio

WORDS = {"a": 0, "b": 1, "c": 2}


def put_model(folder: Path, tokens: Any = WORDS, added: dict[str, int] | None = None) -> Path:
    """Write the files that are checked before a student is loaded."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    extra = [{"content": content, "id": index} for content, index in (added or {}).items()]
    if tokens is not None:
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": tokens}, "added_tokens": extra}))
    return folder


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return put_model(tmp_path / "served", added={"<end>": 3})


@pytest.mark.parametrize(
    "tokens", [WORDS, [["a", -1.0], ["b", -2.0], ["c", -3.0]]], ids=["by their ids", "in their order"]
)
def test_a_model_with_the_served_one_s_vocabulary_may_learn(tmp_path: Path, teacher: Path, tokens: Any) -> None:
    put_model(tmp_path / "models" / "small", tokens, {"<end>": 3})
    StudentModels(tmp_path, teacher).check("small")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone", r"no model in this service's models folder. Models there: bare, other, small"),
        ("../served", "no model in this service's models folder"),
        ("/etc", "no model in this service's models folder"),
        ("org/small", "no model in this service's models folder"),
        ("small", r"'<end>' has id 3 in the served model and none in this one; 4 and 3 tokens"),
        ("other", r"'b' has id 1 in the served model and 2 in this one; 4 and 4 tokens"),
        ("bare", "the student has no tokenizer.json to compare"),
        ("x" * 10_000, r"is 'x{64}\.\.\.', which is no model"),
    ],
)
def test_other_models_are_refused_with_the_reason(tmp_path: Path, teacher: Path, name: str, reason: str) -> None:
    put_model(tmp_path / "models" / "small")
    put_model(tmp_path / "models" / "other", {"a": 0, "c": 1, "b": 2}, {"<end>": 3})
    put_model(tmp_path / "models" / "bare", None)
    with pytest.raises(InvalidInputError, match=reason):
        StudentModels(tmp_path, teacher).check(name)


def test_the_served_model_is_no_student_of_itself(tmp_path: Path) -> None:
    served = put_model(tmp_path / "models" / "served")
    with pytest.raises(InvalidInputError, match="the served model itself"):
        StudentModels(tmp_path, served).check("served")


def service_of(home: Path, publisher: Publisher) -> Service:
    served = put_model(home / "served")
    put_model(home / "models" / "small")
    service = make_service(home, publisher, FakeEngine(served))
    policy = msgspec.structs.replace(POLICY, students=StudentModels(home, served))
    service.jobs = Jobs(service.catalog, service.stages, policy)
    return service


SMALL = {"model": {"student_model_path": "small", "baked_adapter_config": {"r": 256}}}


async def test_the_student_s_adapter_is_kept_for_download_and_never_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(2, 5)
    monkeypatch.setattr(launcher, "train", training)
    publisher = Publisher(5)
    async with running(service_of(tmp_path, publisher)) as service:
        job = await bake(service, **SMALL)
        assert (job.state, job.error) == (JobState.COMPLETE, None)
        assert (publisher.proved, publisher.published) == ([], [])
        assert await steps_kept(service) == [5, 2] and job.loss is not None and job.loss.eval_kl == 0.1
        assert any("the adapter is for 'small', which is not served here" in warning for warning in job.warnings)
        (spec,) = training.specs
        assert (spec.base_model, spec.base_model_name) == (str(tmp_path / "models" / "small"), "small")
        assert spec.neutral == []
        kept = await service.catalog(bakes.find_checkpoint, USER, "repo", "bake", None)
        assert kept is not None and kept.step == 5 and not kept.is_served
        card = await service.catalog(model_card, kept, Contents("small", "small_bake", 16))
        assert card.startswith('---\nbase_model: "small"\n') and "Its teacher was `fake/base`" in card
        for model in ("repo/bake", "repo/bake/2"):
            with pytest.raises(InvalidInputError, match="an adapter of another model than the one that is served"):
                await service.catalog(models.resolve, USER, model)
        with pytest.raises(ConflictError, match="no name can mean it"):
            await service.catalog(promotion.named, USER, "repo", "bake", 2)
        child = {"datasets": [{"target": "target"}], "model": {"parent_model_name": "repo/bake"}}
        await service.catalog(bakes.put, USER, "repo", "child", "default", child, may_change=True)
        with pytest.raises(InvalidInputError, match="neither asked nor baked on"):
            await service.jobs.start(Stage.BAKE, USER, "repo", "child")


async def test_a_bake_that_the_student_can_t_learn_is_refused_before_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "train", Training(1))
    async with running(service_of(tmp_path, Publisher())) as service:
        await bake(service)
        for model, reason in (
            ({"student_model_path": "gone"}, "Bake 'other' can't be run here: model.student_model_path is 'gone'"),
            ({**SMALL["model"], "parent_model_name": "repo/bake"}, "which can't start from 'admin/repo/bake/1'"),
        ):
            settings = {"datasets": [{"target": "target"}], "model": model}
            await service.catalog(bakes.put, USER, "repo", "other", "default", settings, may_change=True)
            with pytest.raises(InvalidInputError, match=reason):
                await service.jobs.start(Stage.BAKE, USER, "repo", "other")


async def test_a_bake_that_was_served_before_is_retired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "train", Training(3))
    publisher = Publisher()
    async with running(service_of(tmp_path, publisher)) as service:
        await bake(service)
        await service.catalog(_fail_last_bake)
        monkeypatch.setattr(launcher, "train", Training(2))
        settings = {"datasets": [{"target": "target"}], **SMALL}
        await service.catalog(bakes.put, USER, "repo", "bake", "default", settings, may_change=True)
        await service.jobs.start(Stage.BAKE, USER, "repo", "bake")
        assert (await ended(service)).state is JobState.COMPLETE
        assert await steps_kept(service) == [2]
    assert (publisher.published, publisher.retired) == ([3], [3])


def _fail_last_bake(catalog: Catalog) -> None:
    """Fail the latest bake, so that it may be changed and run again."""
    job = bakes.latest_job(catalog, USER, "repo", "bake")
    assert job is not None
    catalog.update_job(job.id, state=JobState.FAILED)


def test_a_narrower_student_learns_from_the_kept_tokens_and_begins_at_its_own_divergence(tmp_path: Path) -> None:
    small = make_model(1, hidden_size=16, intermediate_size=24)
    small.save_pretrained(tmp_path / "small")
    rows = make_trajectories(15)
    heard = run(write_spec(tmp_path, tmp_path / "small", rows, eval_interval=12))
    kls = [event.eval_kl for event in heard if isinstance(event, events.Evaluated)]
    total, count = 0.0, 0
    for row in rows[:3]:
        ids = torch.tensor([[*row.student_ids.tolist(), *row.response_ids.tolist()]])
        with torch.no_grad():
            logits = small(input_ids=ids).logits[0, len(row.student_ids) - 1 : -1]
        batch = make_batch([row])
        total += float(forward_kl(logits, batch.top_ids_NK, batch.top_logprobs_NK).sum())
        count += len(row.response_ids)
    assert kls[0] == pytest.approx(total / count, rel=1e-4)
    assert min(kls[1:]) < 0.95 * kls[0]
