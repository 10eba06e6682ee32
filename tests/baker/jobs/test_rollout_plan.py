"""What a rollout needs before it may start."""

import msgspec
import pytest

from baker.errors import InvalidInputError
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from tests.baker.repos.filled import LOUD, POLICY, finish, put_target, start


def test_a_rollout_of_a_failed_stim_is_refused_with_its_reason(filled: Catalog) -> None:
    finish(filled, start(filled, Stage.STIM, "target"), JobState.FAILED)
    with pytest.raises(InvalidInputError, match=r"failed \(broken\): run stim first"):
        start(filled, Stage.ROLLOUT, "target")


def test_its_size_is_that_of_the_stim_as_far_as_it_is_known(filled: Catalog) -> None:
    put_target(filled, num_traj_per_stimulus=3)
    stim = start(filled, Stage.STIM, "target")
    rollout = start(filled, Stage.ROLLOUT, "target")
    assert (rollout.depends_on, rollout.total_expected) == ([stim.id], 2 * 3), "two questions are configured"
    finish(filled, stim, lines=5)
    finish(filled, rollout, JobState.FAILED)
    assert start(filled, Stage.ROLLOUT, "target").total_expected == 5 * 3, "five were made"


def test_the_operator_s_length_of_answers_applies_unless_the_target_has_its_own(filled: Catalog) -> None:
    policy = msgspec.structs.replace(POLICY, rollout_max_tokens=77)
    put_target(filled, "short", max_tokens=5)
    for target, expected in (("target", 77), ("short", 5)):
        start(filled, Stage.STIM, target, policy=policy)
        job = start(filled, Stage.ROLLOUT, target, policy=policy)
        assert (job.inputs.max_tokens, job.config.max_tokens) == (expected, expected)
        assert (job.inputs.teacher, job.inputs.model, job.inputs.checkpoint) == (LOUD, "fake/base", None)
