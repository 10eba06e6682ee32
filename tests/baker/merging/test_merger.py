"""Merges from their plan to their verdict, on an engine whose versions each say one thing."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, check_adapter
from baker.config.target import TargetConfig
from baker.errors import MergeConflictError, StageError, TrainingError
from baker.merge_report import Verdict
from baker.repos.catalog import Catalog
from baker.storage.home import ALGEBRA, SUM, checkpoint_folder
from baker.storage.job_inputs import TargetSnapshot
from baker.types import Checkpoint, Prompt
from tests.baker.merging.scene import Scene

pytestmark = pytest.mark.anyio
QUESTIONS = ["one?", "two?", "three?", "four?"]
PIRATE, YODA = "ar is fine", "it is so"
"""They change different tokens of what the base model says: the first word, and the last."""

Stage = Callable[..., Awaitable[Scene]]


@pytest.fixture
async def stage(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Stage]:
    scenes: list[Scene] = []

    async def make(said: str | None, pirate: str = PIRATE, yoda: str = YODA, *, yodas: list[str] = QUESTIONS) -> Scene:
        scene = Scene(tmp_path, pirate, yoda, said)
        scenes.append(scene)
        await scene.grow("pirate", QUESTIONS, seed=1)
        await scene.grow("yoda", yodas, seed=2)
        return scene

    yield make
    for scene in scenes:
        await scene.close()


async def test_a_sum_that_keeps_both_is_published(stage: Stage) -> None:
    scene = await stage(None)
    bake = await scene.bake()
    result = await scene.run(bake)
    report = await scene.report(bake)
    assert (report.strategy, report.verdict, report.rank) == ("algebra", Verdict.PASSED, 4), "2 and 2 are added up"
    assert {label: each.rows for label, each in report.retention.items()} == {"pirate": 2, "yoda": 2}
    assert result.held_back is None and [saved.step for saved in result.checkpoints] == [0]
    assert (result.loss.eval_kl, result.loss.drift) == (0.5, 0.1), "measured where the training would have begun"
    assert (checkpoint_folder(bake.folder, 0) / "parity.json").exists()
    assert scene.trained == [] and scene.publisher.served == [], "what was only measured is not served any more"


async def test_a_sum_that_loses_one_is_the_start_of_a_training(stage: Stage) -> None:
    scene = await stage(PIRATE)
    bake = await scene.bake()
    result = await scene.run(bake)
    report = await scene.report(bake)
    (start,) = scene.trained
    assert start is not None and (start.adapter, start.rank) == (bake.folder / SUM, 4)
    assert report.strategy == "distill" and report.verdict is Verdict.HELD_BACK
    assert report.algebra["yoda"] < 0.5 < report.algebra["pirate"], "what the sum alone kept stays known"
    assert [saved.step for saved in result.checkpoints] == [7]
    assert result.held_back is not None and "of yoda is left" in result.held_back
    assert "of pirate is left" not in result.held_back


async def test_a_sum_that_a_crash_left_half_written_is_made_again(stage: Stage) -> None:
    scene = await stage(None)
    bake = await scene.bake()
    half = bake.folder / f".{SUM}"
    half.mkdir()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        (half / name).write_bytes(b"torn" * 100_000)
    result = await scene.run(bake)
    assert result.held_back is None and not half.exists()
    check_adapter(bake.folder / SUM, max_rank=4)


async def test_only_the_sum_is_made_if_that_is_asked_for(stage: Stage) -> None:
    scene = await stage(PIRATE)
    result = await scene.run(await scene.bake(strategy="algebra"))
    assert scene.trained == [] and result.held_back is not None
    assert [saved.step for saved in result.checkpoints] == [0], "it is kept, and moves no name"


async def test_a_distilled_merge_does_not_try_the_sum(stage: Stage) -> None:
    scene = await stage(None)
    bake = await scene.bake(strategy="distill")
    result = await scene.run(bake)
    assert not (bake.folder / ALGEBRA).exists() and len(scene.trained) == 1 and result.held_back is None


@pytest.mark.parametrize("merge", [{}, {"strategy": "algebra"}, {"strategy": "distill"}])
async def test_versions_that_contradict_each_other_stop(stage: Stage, merge: dict[str, str]) -> None:
    scene = await stage("ar", "ar ye matey", "yo so wise")
    bake = await scene.bake(**merge)
    await _see_equal_prompts(scene)
    bake = await scene.bake(**merge)
    with pytest.raises(MergeConflictError, match="--ours or --theirs") as caught:
        await scene.run(bake)
    assert "three?" in caught.value.message, "a question that shows it"
    report = await scene.report(bake)
    assert report.conflict is not None and report.conflict.share > 0.5
    assert report.conflict.questions[0].answers == {"pirate": "ar ye matey", "yoda": "yo so wise"}
    assert scene.trained == [] and not (bake.folder / SUM).exists(), "nothing was made"


@pytest.mark.parametrize("merge", [{"weights": [1.0, 1.0]}, {"resolution": "ours"}, {"resolution": "theirs"}])
async def test_a_resolution_lets_it_go_on(stage: Stage, merge: dict[str, object]) -> None:
    scene = await stage("ar ye matey", "ar ye matey", "yo so wise")
    await _see_equal_prompts(scene)
    bake = await scene.bake(**merge)
    if merge.get("resolution") == "theirs":
        # All of pirate's rows are in conflict, so that none of them is left to learn from.
        result = await scene.run(bake)
        assert result.held_back is not None and "yoda" in result.held_back
        return
    result = await scene.run(bake)
    report = await scene.report(bake)
    if "resolution" in merge:
        assert set(report.retention) == {"pirate"} and result.held_back is None, "yoda's rows are not measured"
    else:
        assert set(report.retention) == {"pirate", "yoda"}


async def _see_equal_prompts(scene: Scene) -> None:
    """Give both bakes a target whose student sees no prompt."""
    snapshot = TargetSnapshot(TargetConfig(), Prompt([{"role": "system", "content": "x"}]), Prompt())

    def give(catalog: Catalog) -> None:
        for version in scene.versions.values():
            job = catalog.store.jobs.find_bake(version.job_id)
            assert job is not None
            job.inputs.targets["talk"] = snapshot
            catalog.store.jobs.update(job.id, inputs=job.inputs)

    await scene.catalog(give)


async def test_interrupted_in_its_training_it_does_not_begin_again(stage: Stage) -> None:
    scene = await stage(PIRATE)
    bake = await scene.bake()

    async def killed(*_: object) -> None:
        raise StageError("killed")

    with pytest.raises(StageError, match="killed"):
        await scene.merger.run(bake, scene._write_untrained, killed)  # type: ignore[arg-type]
    asked = len(scene.engine.calls)
    again = await scene.bake()
    again.job = await scene.catalog(lambda catalog: catalog.store.jobs.find_bake(bake.job.id))
    again.folder = bake.folder
    await scene.run(again)
    assert (await scene.report(again)).algebra["yoda"] < 0.5, "the sum is not measured again"
    measured = [call for call in scene.engine.calls[asked:] if call[1] == "both~"]
    assert len(measured) < asked


async def test_without_held_out_rows_nothing_is_verified_unless_a_probe_is_named(stage: Stage) -> None:
    scene = await stage(None, yodas=[])
    await scene.grow_without_rows("pirate")
    bake = await scene.bake()
    result = await scene.run(bake)
    assert (await scene.report(bake)).verdict is Verdict.UNVERIFIED
    assert result.held_back is not None and result.held_back.startswith("unverified")
    await scene.catalog(scene.keep_probe)
    probed = await scene.bake(probe="hard", weights=[1.0, 1.0])
    result = await scene.run(probed)
    report = await scene.report(probed)
    assert {label: each.rows for label, each in report.retention.items()} == {"pirate": 1, "yoda": 1}
    assert report.retention["pirate"].kl_own == pytest.approx(0.0, abs=1e-6), "it is its own teacher"


async def test_a_version_without_rows_is_not_verified_by_the_other_s(stage: Stage) -> None:
    scene = await stage(None)
    await scene.grow_without_rows("yoda")
    bake = await scene.bake()
    result = await scene.run(bake)
    report = await scene.report(bake)
    assert set(report.retention) == {"pirate"} and report.verdict is Verdict.UNVERIFIED
    assert result.held_back == (
        "unverified: yoda has no held-out rows here: name questions (merge.probe), or promote it"
    )


async def test_a_sum_that_was_not_noted_before_a_crash_is_made_again(stage: Stage) -> None:
    scene = await stage(None)
    bake = await scene.bake(strategy="distill")
    (bake.folder / SUM).mkdir()
    (bake.folder / SUM / "adapter_config.json").write_bytes(b"{}")
    await scene.run(bake)
    (start,) = scene.trained
    assert start is not None and start.rank == 4 and check_adapter(start.adapter, max_rank=4) is None


async def test_a_sum_that_is_not_enough_is_no_checkpoint_of_the_training(stage: Stage) -> None:
    scene = await stage(PIRATE)
    bake = await scene.bake()
    await scene.run(bake)
    assert (bake.folder / ALGEBRA / "0").exists() and not checkpoint_folder(bake.folder, 0).exists()


async def test_what_the_engine_does_not_serve_as_it_was_written_is_refused(stage: Stage) -> None:
    scene = await stage(None)
    scene.publisher.complaint = "parity"
    with pytest.raises(TrainingError, match="not served as it was written: parity"):
        await scene.run(await scene.bake())


async def test_a_version_that_was_deleted_meanwhile_is_named(stage: Stage) -> None:
    scene = await stage(None)
    bake = await scene.bake()
    yoda: Checkpoint = scene.versions["yoda"]
    await scene.catalog(lambda catalog: catalog.store.checkpoints.remove(yoda.name))
    with pytest.raises(StageError, match="admin/repo/yoda/3"):
        await scene.run(bake)


def files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if not path.name.startswith("bread.db")]


async def test_a_dry_run_leaves_no_file(stage: Stage, tmp_path: Path) -> None:
    scene = await stage(None)
    bake = await scene.bake()
    before = files(tmp_path)
    seen: list[tuple[int, int]] = []
    assert bake.job.inputs.merge is not None
    report = await scene.merger.preview(
        "admin", "repo", bake.config, bake.job.inputs.merge, lambda done, total: seen.append((done, total))
    )
    assert (report.rank, report.strategy, report.retention) == (4, None, {})
    assert seen == [(done, 12) for done in range(0, 13, 2)]
    assert [path for path in files(tmp_path) if path not in before] == []
