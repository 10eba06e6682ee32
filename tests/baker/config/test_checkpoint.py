import math
from typing import Any

import pytest

from baker.config.bake import bake_config
from baker.config.checkpoint import PublishConfig
from baker.errors import ConfigError
from baker.status import Loss


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"checkpoint": [{"type": "deepspeed"}]}, "checkpoint.0.type: 'deepspeed' .* allowed: huggingface"),
        ({"checkpoint": [{"save_every_n_steps": -1}]}, "checkpoint.0.save_every_n_steps: Expected `int` >= 0"),
    ],
)
def test_a_bad_field_is_named_with_the_allowed_values(overrides: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        bake_config(overrides)


@pytest.mark.parametrize(
    ("conditions", "loss", "complaint"),
    [
        (PublishConfig(), Loss(), None),
        (PublishConfig(min_recovered=0.8), Loss(recovered=0.8), None),
        (PublishConfig(min_recovered=0.8), Loss(recovered=0.7999), "recovered 0.7999, publish_if.min_recovered 0.8"),
        (PublishConfig(min_recovered=0.0), Loss(), "recovered was not measured, publish_if.min_recovered 0"),
        (PublishConfig(min_recovered=0.0), Loss(recovered=math.nan), "recovered nan, publish_if.min_recovered 0"),
        (PublishConfig(max_drift=0.1), Loss(drift=0.1), None),
        (PublishConfig(max_drift=0.1), Loss(drift=0.2), "drift 0.2 nats per token, publish_if.max_drift 0.1"),
        (PublishConfig(max_drift=0.1), Loss(), "drift was not measured, publish_if.max_drift 0.1"),
        (
            PublishConfig(min_recovered=0.5, max_drift=0.1),
            Loss(recovered=0.25, drift=1.0),
            "recovered 0.25, publish_if.min_recovered 0.5; drift 1 nats per token, publish_if.max_drift 0.1",
        ),
    ],
)
def test_a_result_is_held_back_with_every_condition_that_it_fails(
    conditions: PublishConfig, loss: Loss, complaint: str | None
) -> None:
    assert conditions.complaint(loss) == complaint
