"""Where adapters may be taken from, and the rows that an import becomes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from baker.errors import ConflictError, InvalidInputError, NotFoundError
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.versions import imports
from baker.versions.imports import ImportFolders


def adapter(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / ADAPTER_CONFIG).write_text('{"r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]}')
    (folder / ADAPTER_WEIGHTS).write_bytes(b"weights")
    return folder


def test_a_folder_is_found_in_the_allowed_ones_and_by_links_within_them(tmp_path: Path) -> None:
    one, two = adapter(tmp_path / "import" / "one"), adapter(tmp_path / "more" / "two")
    (tmp_path / "import" / "link").symlink_to(two)
    folders = ImportFolders([tmp_path / "import", tmp_path / "more"])
    assert folders.find("one") == one
    assert folders.find(str(two)) == two
    assert folders.find("link") == two


@pytest.mark.parametrize(
    "path", ["../secret", "/etc", "link", "one/../one", "files", "../nothing", "\0", "loop", "/", "x" * 5000]
)
def test_what_leads_outside_is_refused_whether_it_exists_or_not(tmp_path: Path, path: str) -> None:
    secret = adapter(tmp_path / "secret")
    adapter(tmp_path / "import" / "one")
    (tmp_path / "import" / "link").symlink_to(secret)
    (tmp_path / "import" / "loop").symlink_to(tmp_path / "import" / "loop")
    files = tmp_path / "import" / "files"
    files.mkdir()
    (files / ADAPTER_CONFIG).symlink_to(secret / ADAPTER_CONFIG)
    with pytest.raises((InvalidInputError, NotFoundError)) as raised:
        ImportFolders([tmp_path / "import"]).find(path)
    assert isinstance(raised.value, InvalidInputError) or path == "loop"


def test_a_folder_without_an_adapter_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "adapter_model.bin").touch()
    folders = ImportFolders([tmp_path])
    with pytest.raises(InvalidInputError, match="safetensors"):
        folders.find("pickled")
    with pytest.raises(NotFoundError, match="there is no folder"):
        folders.find("nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match=r"no adapter_config\.json"):
        imports.copied(folders.find("empty"), tmp_path)
    assert list((tmp_path / "jobs").iterdir()) == []


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("name", [ADAPTER_CONFIG, ADAPTER_WEIGHTS])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None], name: str) -> None:
    folder = adapter(tmp_path / "one")
    (folder / name).unlink()
    make(folder / name)
    with pytest.raises(InvalidInputError):
        ImportFolders([tmp_path]).find("one")


def keep(catalog: Catalog, source: Path, *, may_replace: bool = False) -> int:
    files = imports.copied(source, catalog.store.home)
    try:
        kept = imports.keep(catalog, "admin", "repo", "bake", files, str(source), ["a note"], may_replace=may_replace)
    finally:
        imports.discard(files)
    assert kept.path.parent.parent.name == str(kept.job_id)
    return kept.step


def test_an_import_is_a_complete_bake_with_a_version_of_its_own(catalog: Catalog, tmp_path: Path) -> None:
    source = adapter(tmp_path / "source")
    first = keep(catalog, source)
    (source / ADAPTER_WEIGHTS).write_bytes(b"other")
    second = keep(catalog, source, may_replace=True)
    newest, oldest = bakes.checkpoints(catalog, "admin", "repo", "bake")
    assert (newest.step, oldest.step) == (second, first)
    assert (oldest.path / ADAPTER_WEIGHTS).read_bytes() == b"weights", "what is served doesn't change with the source"
    assert not os.access(oldest.path / ADAPTER_WEIGHTS, os.W_OK) or os.geteuid() == 0
    assert oldest.sha256 != newest.sha256
    job = bakes.latest_job(catalog, "admin", "repo", "bake")
    assert job is not None and (job.state, job.warnings) == ("complete", ["a note"])
    assert imports.imported_from(job) == str(source)


def test_a_name_that_is_taken_is_only_replaced_if_asked(catalog: Catalog, tmp_path: Path) -> None:
    source = adapter(tmp_path / "source")
    keep(catalog, source)
    with pytest.raises(InvalidInputError, match="already been loaded"):
        keep(catalog, source)
    assert len(bakes.checkpoints(catalog, "admin", "repo", "bake")) == 1
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["1"]
    bakes.put(catalog, "admin", "repo", "unbaked", "default", {}, may_change=False)
    with pytest.raises(ConflictError, match="no version yet"):
        imports.check_name_is_free(catalog, "admin", "repo", "unbaked", may_replace=True)


def test_a_removed_name_comes_back_with_another_number(catalog: Catalog, tmp_path: Path) -> None:
    source = adapter(tmp_path / "source")
    first = keep(catalog, source)
    assert imports.remove(catalog, "admin", "repo", "bake") == [first]
    with pytest.raises(NotFoundError, match="cannot be found"):
        imports.remove(catalog, "admin", "repo", "bake")
    imports.discard(tmp_path / "jobs" / str(first))
    assert keep(catalog, source) > first
