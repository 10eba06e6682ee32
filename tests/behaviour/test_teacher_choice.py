"""The teacher if the config names none: the trainer's own weights, if they gave the answers; else the top tokens."""

import pytest

from baker.jobs import plan
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.status import Stage
from baker.storage.job import BakeJob
from tests.baker.versions.test_lineage import FIRST, POLICY, REPO, USER, catalog, put_bake

__all__ = ["catalog"]  # a fixture

PARENT = {"model": {"parent_model_name": FIRST}}


@pytest.mark.parametrize(
    ("targets", "overrides", "teacher"),
    [
        (["gavin_target"], {}, "full"),
        (["humble_target"], PARENT, "full"),
        (["humble_target"], {}, "top_k"),
        (["gavin_target"], PARENT, "top_k"),
        (["gavin_target", "humble_target"], PARENT, "top_k"),
        (["gavin_target"], {"data": {"teacher": "top_k"}}, "top_k"),
        (["humble_target"], {"data": {"teacher": "full"}}, "full"),
    ],
)
def test_the_trainer_teaches_the_whole_vocabulary_if_its_weights_gave_the_answers(
    catalog: Catalog,
    targets: list[str],
    overrides: dict[str, dict[str, str]],
    teacher: str,
) -> None:
    for stage in (Stage.STIM, Stage.ROLLOUT):
        plan.start(catalog, POLICY, stage, USER, REPO, "humble_target", None)
    put_bake(catalog, "new", targets[0], **overrides, datasets=[{"target": target} for target in targets])
    job = plan.start(catalog, POLICY, Stage.BAKE, USER, REPO, "new", None)
    assert isinstance(job, BakeJob)
    assert job.config.settled(is_own_teacher=job.inputs.is_own_teacher).data.teacher == teacher
    assert job.config == bakes.get(catalog, USER, REPO, "new"), "as it was sent"
