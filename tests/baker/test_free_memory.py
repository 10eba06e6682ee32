"""Free memory on the machine and within a container's limit; a folder stands for the container's control group."""

import resource
from pathlib import Path

import pytest

from baker import free_memory
from baker.free_memory import free_bytes, peak_bytes

MIB = 1 << 20


def limit(folder: Path, *, most: str, used: int, cached: int = 0) -> None:
    """Write the files of a control group in `folder`."""
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cached}\n")


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control group; without files in it, memory is not limited."""
    monkeypatch.setattr(free_memory, "CONTAINER", tmp_path)
    return tmp_path


def test_a_container_s_limit_counts_and_its_cached_files_count_as_free(container: Path) -> None:
    of_machine = free_bytes()
    assert of_machine is not None and of_machine > 20 * MIB
    limit(container, most="30000000", used=25_000_000, cached=4_000_000)
    assert free_bytes() == 9_000_000
    limit(container, most="30000000", used=50_000_000, cached=4_000_000)
    assert free_bytes() == 0


def test_a_container_without_a_limit_has_the_machine_s_memory(container: Path) -> None:
    limit(container, most="max", used=25_000_000)
    assert free_memory._left_in(container) == []
    assert (free_bytes() or 0) > 20 * MIB


def test_a_limit_above_the_machine_s_memory_changes_nothing(container: Path) -> None:
    limit(container, most=str(1 << 60), used=0)
    assert 20 * MIB < (free_bytes() or 0) < 1 << 60


def test_the_peak_stays_after_memory_was_freed() -> None:
    before = peak_bytes()
    block = bytearray(before + 32 * MIB)
    del block
    assert peak_bytes() >= before + 32 * MIB
    assert peak_bytes() <= 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + 32 * MIB
