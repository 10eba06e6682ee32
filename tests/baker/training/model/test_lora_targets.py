import pytest

from baker.errors import AdapterError
from baker.training.model import lora_targets
from baker.training.model.lora_targets import is_named, resolve_targets
from tests.baker.tiny import make_model

LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


@pytest.mark.parametrize(
    ("target_modules", "expected"),
    [
        ("all-linear", LINEAR),
        ("All-Linear ", LINEAR),
        ("q_proj", ["q_proj"]),
        ("v_proj, q_proj,", ["q_proj", "v_proj"]),
        (["v_proj", "q_proj", "v_proj"], ["q_proj", "v_proj"]),
        ("self_attn.q_proj", ["self_attn.q_proj"]),
        (r".*\.1\..*[qv]_proj", ["model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj"]),
        (r"model\.layers\.0\.mlp\.(up|down)_proj", ["model.layers.0.mlp.down_proj", "model.layers.0.mlp.up_proj"]),
        (r".*self_attn.*", [f"model.layers.{i}.self_attn.{x}_proj" for i in (0, 1) for x in "koqv"]),
    ],
)
def test_target_modules_may_be_spelled_in_four_ways(target_modules: str | list[str], expected: list[str]) -> None:
    assert resolve_targets(make_model(), target_modules) == expected


@pytest.mark.parametrize(
    ("target_modules", "complaint"),
    [
        ("lm_head", "lm_head are not served faithfully"),
        (["q_proj", "embed_tokens"], "embed_tokens are not served faithfully"),
        ("model.embed_tokens", "embed_tokens are not served faithfully"),
        ("q_proj,query,mlp", "no linear layer mlp, query; it has down_proj"),
        ("proj", "no linear layer proj"),
        ("q_proj|v_proj", "must match full names, such as model.layers.0.mlp.down_proj"),
        (".*(", "is not a regular expression"),
        (".*", "matches model.embed_tokens, lm_head: adapters there are not served faithfully"),
        ("", "is empty"),
        ([], "is empty"),
    ],
)
def test_target_modules_that_are_not_supported_are_refused_by_name(
    target_modules: str | list[str], complaint: str
) -> None:
    with pytest.raises(AdapterError, match=complaint):
        resolve_targets(make_model(), target_modules)


def test_a_pattern_of_exponential_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_targets, "PATTERN_CPU_SECONDS", 1)
    with pytest.raises(AdapterError, match=r"target_modules .* took too much time"):
        resolve_targets(make_model(), r"([a-z_.0-9]+)+!")


def test_a_name_is_a_full_one_or_its_last_parts() -> None:
    module = "model.layers.0.self_attn.q_proj"
    assert all(is_named(module, ["other", name]) for name in ("q_proj", "self_attn.q_proj", module))
    assert not is_named(module, ["proj", "self_attn", "layers.1.self_attn.q_proj"])
