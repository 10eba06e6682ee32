"""The registry: names and withdrawal. The engine's side of it is in test_engine.py."""

from collections.abc import Callable

import pytest

from baker.errors import NotFoundError
from baker.model_names import BaseModelNames
from baker.repos import models
from baker.repos.catalog import Catalog
from baker.types import Checkpoint
from gateway.serving.pointers import Model
from gateway.serving.registry import Registry
from tests.baker.repos.filled import USER, checkpoint, filled
from tests.gateway.serving.engine import LoraEngine, make

__all__ = ["filled", "make"]  # fixtures

pytestmark = pytest.mark.anyio


def registry(engine: LoraEngine) -> Registry:
    return Registry(engine, BaseModelNames(served="Org/Base", stands_in=True))


@pytest.mark.parametrize("name", ["repo/bake", "admin/repo/bake", "repo/bake/9", "admin/repo/bake/9"])
async def test_every_spelling_finds_the_newest_checkpoint(make: Callable[..., Checkpoint], name: str) -> None:
    adapters = registry(LoraEngine())
    adapters.publish(make(9))
    assert adapters.resolve(name, "admin").name == "admin/repo/bake/9"


@pytest.mark.parametrize("name", ["repo/bake", "admin/repo/bake", "repo/bake/9", "admin/repo/bake/9"])
@pytest.mark.parametrize(("written", "shown"), [("@0.5", "@0.5"), ("@0.50", "@0.5"), ("@0", "@0"), ("@1.0", "")])
async def test_every_spelling_takes_a_strength(
    make: Callable[..., Checkpoint], name: str, written: str, shown: str
) -> None:
    adapters = registry(LoraEngine())
    adapters.publish(newest := make(9))
    assert adapters.resolve(f"{name}{written}", "admin") == Model(f"admin/repo/bake/9{shown}", newest)


@pytest.mark.parametrize("name", ["repo/bake@2.5", "repo/bake@0.125", "repo/bake@", "repo/bake@half", "gone/bake@-1"])
async def test_an_invalid_strength_is_an_error_with_the_rule(make: Callable[..., Checkpoint], name: str) -> None:
    adapters = registry(LoraEngine())
    adapters.publish(make(9))
    with pytest.raises(NotFoundError, match=f"{name!r} does not exist: a strength is .* 0 to 2 .* two decimals"):
        adapters.resolve(name, "admin")


@pytest.mark.parametrize("name", ["Org/Base@0.5", "Qwen/Qwen3-32B@0.5", "repo/bake/8@0.5", "other/repo/bake@0.5"])
async def test_only_bakes_that_are_served_have_strengths(make: Callable[..., Checkpoint], name: str) -> None:
    adapters = registry(LoraEngine())
    adapters.publish(make(9))
    with pytest.raises(NotFoundError, match="nearest first"):
        adapters.resolve(name, "admin")


async def test_publishing_moves_the_name_and_keeps_the_old_checkpoint(make: Callable[..., Checkpoint]) -> None:
    adapters = registry(LoraEngine())
    adapters.publish(make(9, job_id=1))
    adapters.publish(make(4, job_id=2))
    assert adapters.resolve("repo/bake", "admin").name == "admin/repo/bake/4"
    assert adapters.resolve("repo/bake/9", "admin").name == "admin/repo/bake/9"


async def test_a_restart_serves_what_was_served(make: Callable[..., Checkpoint]) -> None:
    adapters = registry(LoraEngine())
    newest, other = make(4, job_id=2), make(9, job_id=1)
    adapters.restore([newest, other], [newest, other])
    assert adapters.resolve("repo/bake", "admin").name == "admin/repo/bake/4"
    names = [model.name for model in adapters.models("admin")]
    assert names == ["Org/Base", "repo/bake", "admin/repo/bake/4", "admin/repo/bake/9"]


@pytest.mark.parametrize("name", ["repo/bakery", "repo/bake/8", "other/repo/bake", "x", "", "../repo/bake"])
async def test_an_unknown_name_is_an_error_with_the_nearest(make: Callable[..., Checkpoint], name: str) -> None:
    adapters = registry(LoraEngine())
    adapters.publish(make(9))
    with pytest.raises(NotFoundError, match="repo/bake"):
        adapters.resolve(name, "admin")


async def test_another_users_models_are_neither_found_nor_named(make: Callable[..., Checkpoint]) -> None:
    adapters = registry(LoraEngine())
    adapters.publish(make(9))
    for name in ("repo/bake", "admin/repo/bake", "admin/repo/bake/9"):
        with pytest.raises(NotFoundError) as raised:
            adapters.resolve(name, "bob")
        assert "nearest first: Org/Base" in raised.value.message
    assert [model.name for model in adapters.models("bob")] == ["Org/Base"]


async def test_the_embedded_model_answers_to_the_names_of_our_users_scripts() -> None:
    assert registry(LoraEngine()).resolve("Qwen/Qwen3-32B", "admin").name == "Org/Base"
    strict = Registry(LoraEngine(), BaseModelNames(served="Org/Base", stands_in=False))
    with pytest.raises(NotFoundError):
        strict.resolve("Qwen/Qwen3-32B", "admin")


async def test_a_withdrawn_bake_is_not_found_and_its_adapters_are_unloaded(make: Callable[..., Checkpoint]) -> None:
    engine = LoraEngine()
    adapters = registry(engine)
    only = make(9)
    await adapters.prove(only)
    adapters.publish(only)
    withdrawn = adapters.withdraw("admin", "repo", "bake")
    with pytest.raises(NotFoundError):
        adapters.resolve("repo/bake", "admin")
    await adapters.unload(withdrawn)
    assert engine.loaded == {}


async def test_a_checkpoint_that_is_retired_is_gone_and_the_others_serve_on(make: Callable[..., Checkpoint]) -> None:
    engine = LoraEngine()
    adapters = registry(engine)
    for each in (old := make(4), make(9)):
        await adapters.prove(each)
        adapters.publish(each)
    await adapters.retire(old)
    assert list(engine.loaded) == ["admin/repo/bake/9"]
    assert adapters.resolve("repo/bake", "admin").name == "admin/repo/bake/9"
    with pytest.raises(NotFoundError):
        adapters.resolve("repo/bake/4", "admin")


async def test_a_bake_whose_only_checkpoint_is_retired_is_not_listed(make: Callable[..., Checkpoint]) -> None:
    adapters = registry(LoraEngine())
    adapters.publish(only := make(4))
    await adapters.retire(only)
    assert [model.checkpoint for model in adapters.models("admin")] == [None]
    assert adapters.count == 0


async def test_an_import_that_was_tried_is_published_without_being_loaded_again(
    make: Callable[..., Checkpoint],
) -> None:
    engine = LoraEngine()
    adapters, imported = registry(engine), make(9)
    files = imported.path.with_name("under-way")
    imported.path.rename(files)
    assert await adapters.gate.probe(files)
    assert list(engine.loaded.values()) == [files]
    files.rename(imported.path)
    adapters.publish_probed(files, imported)
    await adapters.gate.forget_probed(files)
    assert engine.loaded == {"admin/repo/bake/9": imported.path}
    assert adapters.resolve("repo/bake", "admin").checkpoint == imported


def test_requests_and_configs_mean_the_same_checkpoints(filled: Catalog) -> None:
    """Both follow one rule: `baker/repos/models.py`."""
    adapters = Registry(LoraEngine(), filled.base)
    for step, job_id in ((8, 1), (3, 2)):
        filled.store.checkpoints.add(known := checkpoint(filled, step, job_id))
        adapters.publish(known)
    for name in ("repo/bake", "repo/bake/8", "admin/repo/bake", "admin/repo/bake/3", "fake/base"):
        assert adapters.resolve(name, USER).checkpoint == models.resolve(filled, USER, name).checkpoint
