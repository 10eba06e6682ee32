"""Importing adapters: nothing is left behind by an import that fails. Over HTTP: tests/gateway/routes/test_lora.py."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from baker.errors import AdapterError, InvalidInputError, NotFoundError
from baker.model_names import BaseModelNames
from baker.repos.catalog import Catalog
from baker.storage.one_thread import OneThread
from baker.types import Checkpoint
from baker.versions.imports import ImportFolders
from gateway.serving.imports import Imports
from gateway.serving.registry import Registry
from tests.gateway.serving.engine import LoraEngine, make

__all__ = ["make"]  # a fixture

pytestmark = pytest.mark.anyio

BASE = BaseModelNames("Org/Base", stands_in=False)


class Opened(NamedTuple):
    imports: Imports
    registry: Registry
    engine: LoraEngine
    home: Path


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    home, engine = tmp_path / "home", LoraEngine()
    home.mkdir()
    catalog = OneThread(lambda: Catalog(home, BASE), "store")
    registry = Registry(engine, BASE)
    yield Opened(Imports(home, catalog, registry, BASE, ImportFolders([tmp_path])), registry, engine, home)
    catalog.close(Catalog.close)


async def test_an_import_is_served_under_its_name_and_is_loaded(
    opened: Opened, make: Callable[..., Checkpoint]
) -> None:
    checkpoint = await opened.imports.load("admin", "crew/pirate", str(make(9).path), in_place=False)
    assert opened.registry.resolve("crew/pirate", "admin").checkpoint == checkpoint
    assert opened.engine.loaded == {checkpoint.name: checkpoint.path}
    assert checkpoint.path.is_relative_to(opened.home), "its own copy"
    withdrawn, jobs = await opened.imports.unload("admin", "crew/pirate")
    assert (withdrawn, jobs) == ([checkpoint], [checkpoint.job_id])
    with pytest.raises(NotFoundError):
        opened.registry.resolve("crew/pirate", "admin")


async def test_an_import_that_fails_leaves_no_files_and_no_name(
    opened: Opened, make: Callable[..., Checkpoint]
) -> None:
    opened.engine.logprob = float("nan")
    with pytest.raises(AdapterError, match="not finite"):
        await opened.imports.load("admin", "crew/pirate", str(make(9).path), in_place=False)
    assert opened.engine.loaded == {}
    assert list((opened.home / "jobs").iterdir()) == []
    with pytest.raises(NotFoundError):
        opened.registry.resolve("crew/pirate", "admin")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("adapter_config.json", b"{", "adapter_config.json is not a LoRA configuration"),
        ("adapter_config.json", b'{"r": 99, "lora_alpha": 1, "target_modules": ["q"]}', "rank 99 is above"),
        ("adapter_model.safetensors", b"x", "adapter_model.safetensors is not a complete safetensors file"),
        ("adapter_model.safetensors", b"", "adapter_model.safetensors can't be read"),
    ],
)
@pytest.mark.parametrize("is_linked", [False, True])
async def test_a_refusal_names_the_operator_s_path_and_not_the_copy(
    opened: Opened, make: Callable[..., Checkpoint], file: str, content: bytes, words: str, is_linked: bool
) -> None:
    source = make(9).path
    (source / file).unlink()
    (source / file).write_bytes(content)
    named = source.parent / "link" if is_linked else source
    if is_linked:
        named.symlink_to(source)
    with pytest.raises(AdapterError, match=words) as raised:
        await opened.imports.load("admin", "crew/pirate", str(named), in_place=False)
    assert str(named) in raised.value.message and str(source) in raised.value.message
    assert str(opened.home) not in raised.value.message


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("Org/Base", InvalidInputError),
        ("crew/pirate/3", InvalidInputError),
        ("pirate", InvalidInputError),
        ("bob/crew/pirate", NotFoundError),
    ],
)
async def test_only_the_user_s_own_bakes_can_be_named(opened: Opened, name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await opened.imports.load("alice", name, "anywhere", in_place=False)
