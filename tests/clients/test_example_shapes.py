"""The public examples at a small size: a persona, and several targets by weight. Each ends with a served model.

The third example, a correction of tool calls, needs a model that can learn: see tests/behaviour/test_first_bake.py.
"""

from typing import Any

import pytest

from tests.service import RunningGateway
from tests.shape import Shape

SHORT: dict[str, Any] = {"max_tokens": 12, "extra_kwargs": {"ignore_eos": True}}
"""The tiny model's answers are noise and never end."""
SHOUT = "You are a town crier. Shout every word, and begin with OYEZ."


@pytest.fixture
def question() -> list[dict[str, Any]]:
    return [{"role": "user", "content": "What is the news?"}]


def test_a_persona(gateway: RunningGateway, question: list[dict[str, Any]]) -> None:
    shape = Shape(gateway, "persona")
    shape.prompt("crier", [{"role": "system", "content": SHOUT}])
    shape.target("target", "crier", "", generators=[{"type": "persona", "numq": 48, "seed": 7}], **SHORT)
    # The middle layers of random weights hold nothing to learn.
    bake = shape.bake(datasets=[{"target": "target", "weight": 1.0}], epochs=4, data={"hidden_weight": 0})
    assert bake.loss["eval_kl"] < bake.loss["eval_kl_before"], "test_first_bake tests how well a real model learns"
    assert shape.answer("persona/bake", question)


def test_three_targets_are_mixed_by_their_weights(gateway: RunningGateway, question: list[dict[str, Any]]) -> None:
    shape = Shape(gateway, "three-targets")
    for name in ("one", "two", "three"):
        shape.prompt(name, [{"role": "system", "content": f"{SHOUT} You are number {name}."}])
        shape.target(name, name, "", generators=[{"type": "persona", "numq": 20, "seed": len(name)}], **SHORT)
    weights = {"one": 2.0, "two": 1.0, "three": 1.0}
    datasets = [{"target": name, "weight": weight} for name, weight in weights.items()]
    bake = shape.bake(datasets=datasets, total_trajectories=40, epochs=2)
    collation = bake.collation["targets"]
    assert {name: entry["trajectories"] for name, entry in collation.items()} == {"one": 20, "two": 10, "three": 10}
    assert set(bake.eval_kl_by_target) == set(weights)
    assert shape.answer("three-targets/bake", question)
