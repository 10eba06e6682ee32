"""The engine's settings as vLLM's arguments and environment."""

import os
from pathlib import Path

import pytest

from baker import free_memory
from gateway.engine import EngineSettings
from gateway.engine.core import settings
from gateway.engine.core.settings import GIB, arguments, cpu_kv_cache_gib, read_config, set_environment


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the container's control group."""
    monkeypatch.setattr(free_memory, "CONTAINER", tmp_path)
    (tmp_path / "memory.current").write_text("0\n")
    (tmp_path / "memory.stat").write_text("")
    return tmp_path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 8192}')
    return folder


def value_of(command_line: list[str], name: str) -> str:
    return command_line[command_line.index(name) + 1]


def test_a_cpu_gets_a_short_window_and_a_gpu_the_models_own(model: Path) -> None:
    on_cpu, on_gpu = (arguments(EngineSettings(model=model, name="model"), is_cpu=is_cpu) for is_cpu in (True, False))
    assert value_of(on_cpu, "--max-model-len") == "4096"
    assert "--kv-cache-memory-bytes" in on_cpu and "--enforce-eager" in on_cpu
    assert "--max-model-len" not in on_gpu and "--gpu-memory-utilization" in on_gpu
    assert "--kv-cache-memory-bytes" not in on_gpu and "--enforce-eager" not in on_gpu


def test_what_the_operator_sets_wins_and_extra_arguments_come_last(model: Path) -> None:
    given = EngineSettings(
        model=model, name="model", max_model_len=100, kv_cache_gib=0.5, tool_call_parser="x", extra_args=["--a", "b"]
    )
    command_line = arguments(given, is_cpu=True)
    assert value_of(command_line, "--max-model-len") == "100"
    assert value_of(command_line, "--kv-cache-memory-bytes") == str(GIB // 2)
    assert value_of(command_line, "--tool-call-parser") == "x"
    assert command_line[-2:] == ["--a", "b"]


@pytest.mark.parametrize(("limit_gib", "cache_gib"), [(1, 0.25), (8, 1.0), (1 << 20, None)])
def test_the_cache_is_an_eighth_of_what_the_container_has_left(
    container: Path, limit_gib: int, cache_gib: float | None
) -> None:
    (container / "memory.max").write_text(f"{limit_gib * GIB}\n")
    machine_gib = (free_memory.free_bytes() or 0) / GIB
    if limit_gib > machine_gib:
        expected = min(2.0, max(0.25, machine_gib / 8))  # the machine has less than the limit
        assert cpu_kv_cache_gib() == pytest.approx(expected, rel=0.1)
    else:
        assert cpu_kv_cache_gib() == cache_gib


def test_the_cache_is_smallest_where_the_system_reports_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "free_bytes", lambda: None)
    assert cpu_kv_cache_gib() == 0.25


@pytest.mark.parametrize(("weights", "dtype"), [(999, "float32"), (1000, None)])
def test_float32_needs_twice_the_weights_in_half_of_what_the_container_has_left(
    container: Path, model: Path, monkeypatch: pytest.MonkeyPatch, weights: int, dtype: str | None
) -> None:
    """With a machine that could hold it many times over."""
    (container / "memory.max").write_text("4000\n")
    (model / "model.safetensors").write_bytes(bytes(weights))
    monkeypatch.setattr(settings, "multiplies_bfloat16", lambda: False)
    command_line = arguments(EngineSettings(model=model, name="model"), is_cpu=True)
    assert ("--dtype" in command_line) == (dtype is not None)
    assert dtype is None or value_of(command_line, "--dtype") == dtype
    monkeypatch.setattr(settings, "multiplies_bfloat16", lambda: True)
    assert "--dtype" not in arguments(EngineSettings(model=model, name="model"), is_cpu=True)


def test_the_environment_that_the_operator_has_set_stays(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"HF_HUB_OFFLINE": "0"})
    set_environment(EngineSettings(model=model, name="model", max_n=7))
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    assert os.environ["VLLM_MAX_N_SEQUENCES"] == "7"
    cores = os.environ["VLLM_CPU_OMP_THREADS_BIND"].split(",")
    assert {int(core) for core in cores} == os.sched_getaffinity(0)


def test_a_config_that_is_no_object_is_refused(model: Path) -> None:
    assert read_config(model) == {"max_position_embeddings": 8192}
    (model / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="JSON object"):
        read_config(model)
