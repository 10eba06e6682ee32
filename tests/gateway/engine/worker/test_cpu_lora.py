"""The LoRA kernels for CPUs, compared with vLLM's own where those are correct, and where they are not."""

import importlib.util
import inspect
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from gateway.engine import Engine
from tests.service import ROOT

SLOTS, RANK, WIDTH_IN, SLICES = 4, 8, 32, (24, 16, 16)


@pytest.fixture(autouse=True, params=[0, 8], ids=["side by side", "slot by slot"])
def _steps_before_packing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run with both ways to serve several adapters."""
    from gateway.engine.worker import cpu_lora

    monkeypatch.setattr(cpu_lora, "STEPS_BEFORE_PACKING", request.param)


@pytest.fixture(scope="module", autouse=True)
def _vllm_is_imported(engine: Engine) -> None:
    """The engine's fixture imports vLLM without its warnings."""


def stacks(seed: int = 0, *, used_rank: int = RANK) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """A and B of a fused layer, for every slot; rows above `used_rank` are zero, as for a small adapter."""
    generator = torch.Generator().manual_seed(seed)
    a = [torch.randn(SLOTS, 1, RANK, WIDTH_IN, generator=generator) for _ in SLICES]
    b = [torch.randn(SLOTS, 1, width, RANK, generator=generator) for width in SLICES]
    for a_slice, b_slice in zip(a, b, strict=True):
        a_slice[:, :, used_rank:] = 0
        b_slice[..., used_rank:] = 0
    return tuple(t.bfloat16() for t in a), tuple(t.bfloat16() for t in b)


def punica(kind: type, slots: list[int]) -> object:
    """A wrapper of this kind for rows of these slots; slot -1 is the base model."""
    wrapper = kind(128, 128, "cpu")
    ids = [slot + 1 for slot in slots]  # adapter ids begin at 1; 0 is the base model
    mapping = SimpleNamespace(index_mapping=tuple(ids), prompt_mapping=tuple(ids), is_prefill=False)
    wrapper.update_metadata(mapping, [slot + 1 for slot in range(SLOTS)], SLOTS, 100)
    return wrapper


def applied(kind: type, slots: list[int], x: Tensor, a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    y = torch.ones(len(slots), sum(SLICES), dtype=torch.bfloat16)
    punica(kind, slots).add_lora_linear(y, x, a, b, 1.0, SLICES)  # type: ignore[attr-defined]
    return y


def by_hand(slots: list[int], x: Tensor, a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    rows = []
    for row, slot in enumerate(slots):
        deltas = [
            b_slice[slot, 0].double() @ (a_slice[slot, 0].double() @ x[row].double())
            for a_slice, b_slice in zip(a, b, strict=True)
        ]
        rows.append(1 + torch.cat(deltas) * (slot >= 0))
    return torch.stack(rows)


def inputs(rows: int) -> Tensor:
    return torch.randn(rows, WIDTH_IN, generator=torch.Generator().manual_seed(7)).bfloat16()


@pytest.mark.parametrize("used_rank", [RANK, 3])
@pytest.mark.parametrize("slots", [[2], [1, 1, 1], [0, 3, 1, 3, 0], [0, 3, 1, 2] * 20])
def test_rows_with_adapters_get_the_same_result_as_from_vllm(slots: list[int], used_rank: int) -> None:
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    from gateway.engine.worker.cpu_lora import RowwisePunica

    a, b = stacks(used_rank=used_rank)
    x = inputs(len(slots))
    ours = applied(RowwisePunica, slots, x, a, b)
    torch.testing.assert_close(ours, applied(PunicaWrapperCPU, slots, x, a, b), atol=0.15, rtol=0.02)
    torch.testing.assert_close(ours.double(), by_hand(slots, x, a, b), atol=0.15, rtol=0.02)


@pytest.mark.parametrize("slots", [[-1], [-1, -1], [-1, 2, -1, 0], [3, -1]])
def test_rows_of_the_base_model_are_not_changed(slots: list[int]) -> None:
    from gateway.engine.worker.cpu_lora import RowwisePunica

    a, b = stacks()
    x = inputs(len(slots))
    y = applied(RowwisePunica, slots, x, a, b)
    base = [row for row, slot in enumerate(slots) if slot == -1]
    assert torch.equal(y[base], torch.ones(len(base), sum(SLICES), dtype=torch.bfloat16))
    torch.testing.assert_close(y.double(), by_hand(slots, x, a, b), atol=0.05, rtol=0.01)


def test_weights_are_packed_side_by_side_after_some_steps_with_the_same_result() -> None:
    from gateway.engine.worker import cpu_lora

    a, b = stacks()
    slots = [0, 3, -1, 3, 0]
    x, wrapper = inputs(len(slots)), punica(cpu_lora.RowwisePunica, slots)
    packed = []
    for _ in range(cpu_lora.STEPS_BEFORE_PACKING + 2):
        y = torch.ones(len(slots), sum(SLICES), dtype=torch.bfloat16)
        wrapper.add_lora_linear(y, x, a, b, 1.0, SLICES)  # type: ignore[attr-defined]
        torch.testing.assert_close(y.double(), by_hand(slots, x, a, b), atol=0.05, rtol=0.01)
        assert torch.equal(y[2], torch.ones(sum(SLICES)).bfloat16())
        (layer,) = wrapper._layers.values()  # type: ignore[attr-defined]
        packed.append(layer._together is not None)
    assert packed == [False] * cpu_lora.STEPS_BEFORE_PACKING + [True, True]


@pytest.mark.parametrize("slots", [[2, 2], [2, -1], [0, 3, -1, 3, 0]])
def test_weights_that_are_not_packed_yet_give_the_same_result(
    slots: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.engine.worker import cpu_lora

    monkeypatch.setattr(cpu_lora, "LAYERS_PER_STEP", 1)
    x, wrapper = inputs(len(slots)), punica(cpu_lora.RowwisePunica, slots)
    layers = [stacks(seed) for seed in range(3)]
    for _ in range(4):  # one layer more is packed each time
        for a, b in layers:
            y = torch.ones(len(slots), sum(SLICES), dtype=torch.bfloat16)
            wrapper.add_lora_linear(y, x, a, b, 1.0, SLICES)  # type: ignore[attr-defined]
            torch.testing.assert_close(y.double(), by_hand(slots, x, a, b), atol=0.15, rtol=0.02)


@pytest.mark.parametrize("can_multiply", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_all_types_of_activations_work_on_all_cpus(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, can_multiply: bool
) -> None:
    from gateway.engine.worker import cpu_lora

    monkeypatch.setattr(cpu_lora, "multiplies_bfloat16", lambda: can_multiply)
    cpu_lora.product_type.cache_clear()
    try:
        a, b = (tuple(stack.to(dtype) for stack in side) for side in stacks())
        for slots in ([1, 1], [1, -1, 0]):
            x, y = inputs(len(slots)).to(dtype), torch.ones(len(slots), sum(SLICES), dtype=dtype)
            punica(cpu_lora.RowwisePunica, slots).add_lora_linear(y, x, a, b, 1.0, SLICES)  # type: ignore[attr-defined]
            torch.testing.assert_close(y.double(), by_hand(slots, x, a, b), atol=0.05, rtol=0.01)
    finally:
        cpu_lora.product_type.cache_clear()


def test_vllm_still_gives_base_rows_the_last_adapter() -> None:
    """When this fails, vLLM has fixed it, and our kernels are needed only for speed."""
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    a, b = stacks()
    y = applied(PunicaWrapperCPU, [-1, 0], inputs(2), a, b)
    assert not torch.equal(y[0], torch.ones(sum(SLICES), dtype=torch.bfloat16))


def test_our_patch_for_vllm_fixes_it(tmp_path: Path) -> None:
    from vllm.lora.punica_wrapper import punica_cpu

    patch = ROOT / "docs/vllm-cpu-lora.patch"
    file = tmp_path / "vllm/lora/punica_wrapper/punica_cpu.py"
    file.parent.mkdir(parents=True)
    file.write_text(inspect.getsource(punica_cpu))
    subprocess.run(["git", "apply", str(patch)], cwd=tmp_path, check=True)
    spec = importlib.util.spec_from_file_location("vllm.lora.punica_wrapper.patched", file)
    assert spec is not None and spec.loader is not None
    patched = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(patched)
    a, b = stacks()
    for slots in ([2], [-1], [1, 1], [3, -1], [0, 3, -1, 1, 3, 0]):
        x = inputs(len(slots))
        y = applied(patched.PunicaWrapperCPU, slots, x, a, b)
        torch.testing.assert_close(y.double(), by_hand(slots, x, a, b), atol=0.05, rtol=0.01)


def test_an_adapter_of_nan_affects_only_its_own_rows() -> None:
    from gateway.engine.worker.cpu_lora import RowwisePunica

    a, b = stacks()
    clean = applied(RowwisePunica, [0, -1, 2, 1], inputs(4), a, b)
    for stack in (*a, *b):
        stack[2] = float("nan")
    y = applied(RowwisePunica, [0, -1, 2, 1], inputs(4), a, b)
    assert torch.equal(y[[0, 1, 3]], clean[[0, 1, 3]])
    assert y[2].isnan().all()


def test_a_layer_that_an_adapter_does_not_change_stays_unchanged() -> None:
    from gateway.engine.worker.cpu_lora import RowwisePunica

    a, b = stacks()
    for stack in (*a, *b):
        stack[1] = 0
    assert torch.equal(applied(RowwisePunica, [1, 1], inputs(2), a, b), torch.ones(2, sum(SLICES)).bfloat16())
    mixed = applied(RowwisePunica, [1, 0], inputs(2), a, b)
    assert torch.equal(mixed[0], torch.ones(sum(SLICES)).bfloat16())
    torch.testing.assert_close(mixed.double(), by_hand([1, 0], inputs(2), a, b), atol=0.05, rtol=0.01)
    several = applied(RowwisePunica, [1, 0, 3], inputs(3), a, b)
    torch.testing.assert_close(several.double(), by_hand([1, 0, 3], inputs(3), a, b), atol=0.05, rtol=0.01)


@pytest.mark.parametrize("slots", [[2], [2, 0, 1]])
def test_a_slot_with_another_adapter_is_packed_again(slots: list[int]) -> None:
    from gateway.engine.worker.cpu_lora import RowwisePunica

    (a, b), (other_a, other_b) = stacks(), stacks(1)
    x = inputs(len(slots))
    wrapper = punica(RowwisePunica, slots)
    y = torch.ones(len(slots), sum(SLICES), dtype=torch.bfloat16)
    wrapper.add_lora_linear(y, x, a, b, 1.0, SLICES)  # type: ignore[attr-defined]
    for stack, other in zip((*a, *b), (*other_a, *other_b), strict=True):
        stack[2] = other[2]
    wrapper.forget(2)  # type: ignore[attr-defined]
    y = torch.ones(len(slots), sum(SLICES), dtype=torch.bfloat16)
    wrapper.add_lora_linear(y, x, a, b, 1.0, SLICES)  # type: ignore[attr-defined]
    torch.testing.assert_close(y.double(), by_hand(slots, x, a, b), atol=0.05, rtol=0.01)


def test_logits_and_embeddings_of_base_rows_are_not_changed_either() -> None:
    from gateway.engine.worker.cpu_lora import RowwisePunica

    (a, *_), (b, *_) = stacks()
    wrapper = punica(RowwisePunica, [-1, 1])
    x, width = inputs(2), SLICES[0]
    logits = torch.ones(2, width, dtype=torch.bfloat16)
    wrapper.add_lora_logits(logits, x, a, b, 1.0)  # type: ignore[attr-defined]
    expected = 1 + b[1, 0].double() @ (a[1, 0].double() @ x[1].double())
    assert torch.equal(logits[0], torch.ones(width).bfloat16())
    torch.testing.assert_close(logits[1].double(), expected, atol=0.05, rtol=0.01)
    embedded = torch.ones(2, width, dtype=torch.bfloat16)
    looked_up = (x.double() @ a[1, 0].double().t()).bfloat16()
    wrapper.add_lora_embedding(embedded, looked_up, b)  # type: ignore[attr-defined]
    assert torch.equal(embedded[0], torch.ones(width).bfloat16())
    torch.testing.assert_close(embedded[1].double(), expected, atol=0.2, rtol=0.02)


def test_a_generator_that_is_rewound_repeats_its_first_draw() -> None:
    from gateway.engine.worker.cpu_lora import RewindingGenerator

    generator = RewindingGenerator(device="cpu")
    generator.manual_seed(5)
    first = torch.empty(4).exponential_(generator=generator)
    generator.set_offset(generator.get_offset() - 4)
    assert torch.equal(torch.empty(4).exponential_(generator=generator), first)
