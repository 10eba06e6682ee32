import pytest

from baker.config.checkpoint import CheckpointConfig
from baker.training.run.checkpoint_writer import is_due


def steps(*configs: CheckpointConfig, total: int = 12, per_epoch: int = 4) -> list[int]:
    return [step for step in range(1, total + 1) if is_due(configs, step, per_epoch)]


@pytest.mark.parametrize(
    ("configs", "expected"),
    [
        ([], []),
        ([CheckpointConfig()], []),
        ([CheckpointConfig(save_end_of_training=True)], []),
        ([CheckpointConfig(save_every_n_steps=5)], [5, 10]),
        ([CheckpointConfig(save_every_n_epochs=1)], [4, 8, 12]),
        ([CheckpointConfig(save_every_n_epochs=2)], [8]),
        ([CheckpointConfig(save_every_n_steps=5, save_every_n_epochs=2)], [5, 8, 10]),
        ([CheckpointConfig(save_every_n_steps=6), CheckpointConfig(save_every_n_epochs=1)], [4, 6, 8, 12]),
        ([CheckpointConfig(save_every_n_steps=5, enabled=False)], []),
        ([CheckpointConfig(save_every_n_steps=5, enabled=False), CheckpointConfig(save_every_n_steps=7)], [7]),
    ],
)
def test_checkpoints_are_due_by_steps_and_by_whole_epochs(configs: list[CheckpointConfig], expected: list[int]) -> None:
    assert steps(*configs) == expected
