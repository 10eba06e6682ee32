"""Instructions of a CPU, as Linux lists them."""

from pathlib import Path

import pytest

from gateway.engine.worker.cpu_features import multiplies_bfloat16


@pytest.mark.parametrize(
    ("flags", "can_multiply"),
    [
        ("flags : fpu avx512f avx512_bf16 sha_ni", True),
        ("flags : fpu amx_bf16", True),
        ("Features : fp asimd bf16", True),
        ("flags : fpu avx2 avx512f avx512_fp16", False),
        ("", False),
    ],
)
def test_any_instruction_for_bfloat16_counts(monkeypatch: pytest.MonkeyPatch, flags: str, can_multiply: bool) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path: flags)
    assert multiplies_bfloat16.__wrapped__() is can_multiply
