"""Settings under `data`: the divergence, the teacher, the split, and on-policy rounds."""

from typing import Annotated

import msgspec

from baker.config.ranges import NonNegative, Positive, Seed, Share
from baker.config.spellings import BAKERS, CACHE_FILE_SYSTEMS, SOURCE_TYPES, TEACHERS, meaning


class DataSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of a file: stored, and not trained on here."""

    type: str = "bake_jsonl"
    name_or_path: str | None = None
    split: str | None = None
    """Absent: `train` for sources, `eval` for eval_sources."""
    max_samples: Annotated[int, msgspec.Meta(ge=-1)] = -1
    """-1 is all."""
    sample_ratio: Share | None = None
    sample_count: NonNegative | None = None
    sample_seed: Seed = 42
    process: bool = True

    def __post_init__(self) -> None:
        meaning("type", self.type, SOURCE_TYPES)


class OnPolicyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Training that goes on, after the teacher's answers, on the student's own, which the teacher judges.

    Source: on-policy distillation, arXiv:2306.13649.
    """

    rounds: NonNegative = 0
    """0: none. In each, the student as it then is answers anew."""
    trajectories: Positive | None = None
    """Answers of a round; absent: as many as the mix has rows."""
    share: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 1.0
    """Of them among the rows that a round trains on; the others are the teacher's answers."""
    epochs: Positive = 1
    """Passes over a round's rows."""
    temperature: Annotated[float, msgspec.Meta(gt=0.0)] = 1.0
    """At which the student answers."""
    max_tokens: Positive | None = None
    """Of an answer; absent: as many as the longest of the teacher's."""

    def rows(self, mix_rows: int) -> tuple[int, int]:
        """Of a round: how many the student answers, and how many the teacher did, of a mix of so many rows."""
        own = self.trajectories or mix_rows
        return own, round(own * (1.0 - self.share) / self.share)


class DataConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str = "single_baker"
    sources: list[DataSource] = []
    eval_sources: list[DataSource] = []
    beta: Share | None = None
    """Which divergence is trained, see `losses.Measure`; absent or 0: the forward KL."""
    temperature: Annotated[float, msgspec.Meta(gt=0.0)] = 1.0
    """Of teacher and student alike, in the loss."""
    teacher: str | None = None
    """`top_k`: the distribution that the rollout kept; `full`: the trainer computes the whole of it, from the bake's
    parent (or the base) under the teacher's context. Absent: see `BakeConfig.settled`."""
    hidden_weight: Annotated[float, msgspec.Meta(ge=0.0)] = 150.0
    """With the full teacher: what the middle layers' distance from it counts beside the divergence, see
    `Student.lesson`."""
    on_policy: OnPolicyConfig = OnPolicyConfig()
    max_length: Positive | None = None
    """Longest trajectory, in tokens of student context and response; longer responses are cut, with a warning."""
    train_eval_split: tuple[float, float] = (0.9, 0.1)
    """Shares of the stimuli; the second is held out and gives eval_kl."""
    seed: Seed | None = None
    """Of the split and the mix; absent: the bake's seed."""
    dl_num_workers: NonNegative = 0
    """Stored, as all that follow: the rows of a bake are in memory."""
    num_proc: NonNegative = 1
    cache_dir: str | None = None
    cache_fs_type: str | None = None
    use_data_cache: bool | None = None

    def __post_init__(self) -> None:
        meaning("type", self.type, BAKERS)
        if self.teacher is not None:
            meaning("teacher", self.teacher, TEACHERS)
        if self.cache_fs_type is not None:
            meaning("cache_fs_type", self.cache_fs_type, CACHE_FILE_SYSTEMS)
        train, held_out = self.train_eval_split
        if min(train, held_out) < 0 or train <= 0 or abs(train + held_out - 1.0) > 1e-6:
            raise ValueError(f"train_eval_split must be two shares that sum to 1.0, got {[train, held_out]}")

    @property
    def has_full_teacher(self) -> bool:
        return self.teacher is not None and meaning("teacher", self.teacher, TEACHERS) == "full"

    @property
    def has_other_teacher(self) -> bool:
        """Whether the bake's parent teaches too, and not only who answered in the rollout."""
        return self.has_full_teacher or self.on_policy.rounds > 0
