"""Settings under `data`: the divergence, the teacher, the split, and on-policy rounds."""

from typing import Annotated

import msgspec

from baker.config.mistakes import Mistake, check
from baker.config.ranges import NonNegative, Positive, Seed, Share
from baker.config.spellings import BAKERS, CACHE_FILE_SYSTEMS, SOURCE_TYPES, TEACHERS, meaning, misspelling


class DataSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of a file. Stored, but a bake that names any can't be run: bakes train on rollouts."""

    type: str = "bake_jsonl"
    """Must be `bake_jsonl`."""
    name_or_path: str | None = None
    """Stored, like all fields below."""
    split: str | None = None
    """Absent: `train` in sources, `eval` in eval_sources."""
    max_samples: Annotated[int, msgspec.Meta(ge=-1)] = -1
    """-1: all."""
    sample_ratio: Share | None = None
    sample_count: NonNegative | None = None
    sample_seed: Seed = 42
    process: bool = True

    def __post_init__(self) -> None:
        check(misspelling("type", self.type, SOURCE_TYPES))


class OnPolicyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rounds of training on the student's own answers, judged by the teacher, after the training on the teacher's.

    Source: on-policy distillation, arXiv:2306.13649.
    """

    rounds: NonNegative = 0
    """Number of rounds; 0: none. In each round the current student answers anew."""
    trajectories: Positive | None = None
    """Number of answers of the student in a round; absent: as many as the mix has rows."""
    share: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 1.0
    """Share of the student's answers in the rows that a round trains on; the rest are answers of the teacher."""
    epochs: Positive = 1
    """Number of passes over a round's rows."""
    temperature: Annotated[float, msgspec.Meta(gt=0.0)] = 1.0
    """Sampling temperature of the student's answers."""
    max_tokens: Positive | None = None
    """Longest answer of the student, in tokens; absent: as long as the teacher's longest."""

    def rows(self, mix_rows: int) -> tuple[int, int]:
        """Number of a round's rows that the student answers, and that the teacher answered, for a mix of `mix_rows`."""
        own = self.trajectories or mix_rows
        return own, round(own * (1.0 - self.share) / self.share)


class DataConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bake learns from, and how student and teacher are compared."""

    type: str = "single_baker"
    """Must be `single_baker`."""
    sources: list[DataSource] = []
    """Must be empty for a run: bakes train on rollouts, named in `datasets`."""
    eval_sources: list[DataSource] = []
    """Must be empty for a run, like `sources`."""
    beta: Share | None = None
    """Divergence that is trained (`divergences.Measure`): absent or 0 is the forward KL, 1 the reverse KL, and values
    between give the generalised Jensen-Shannon divergence."""
    temperature: Annotated[float, msgspec.Meta(gt=0.0)] = 1.0
    """Temperature of both teacher and student in the loss."""
    teacher: str | None = None
    """Teacher's distribution: `top_k` is the one that the rollout kept; `full` covers the whole vocabulary, computed in
    training from the bake's parent (or the base) under the teacher's context. Absent: see `BakeConfig.settled`."""
    hidden_weight: Annotated[float, msgspec.Meta(ge=0.0)] = 150.0
    """With the full teacher: weight of the distance between the student's and the teacher's middle layers, added to the
    divergence (`Student.lesson`)."""
    on_policy: OnPolicyConfig = OnPolicyConfig()
    """Rounds of training on the student's own answers."""
    max_length: Positive | None = None
    """Longest trajectory, in tokens of student context and response; longer responses are cut, with a warning."""
    train_eval_split: tuple[float, float] = (0.9, 0.1)
    """Shares of the stimuli for training and for evaluation; eval_kl is measured on the second."""
    seed: Seed | None = None
    """Seed of the split and the mix; absent: the bake's seed."""
    dl_num_workers: NonNegative = 0
    """Stored without effect, like all fields below: a bake's rows are in memory."""
    num_proc: NonNegative = 1
    cache_dir: str | None = None
    cache_fs_type: str | None = None
    use_data_cache: bool | None = None

    def __post_init__(self) -> None:
        train, held_out = self.train_eval_split
        are_shares = held_out >= 0 and train > 0 and abs(train + held_out - 1.0) <= 1e-6
        wrong_split = f"must be two shares that sum to 1.0, got {[train, held_out]}"
        check(
            misspelling("type", self.type, BAKERS),
            misspelling("teacher", self.teacher, TEACHERS),
            misspelling("cache_fs_type", self.cache_fs_type, CACHE_FILE_SYSTEMS),
            None if are_shares else Mistake(("train_eval_split",), wrong_split),
        )

    @property
    def has_full_teacher(self) -> bool:
        return self.teacher is not None and meaning("teacher", self.teacher, TEACHERS) == "full"

    @property
    def has_other_teacher(self) -> bool:
        """Whether the bake's parent teaches too, besides the model that answered in the rollout."""
        return self.has_full_teacher or self.on_policy.rounds > 0
