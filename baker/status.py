"""Stages and states of jobs, and the numbers that a job's status shows."""

import time
from collections.abc import Callable
from enum import StrEnum

import msgspec


class Stage(StrEnum):
    STIM = "stim"
    ROLLOUT = "rollout"
    BAKE = "bake"


class JobState(StrEnum):
    NOT_STARTED = "not_started"
    PENDING = "pending"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"

    @property
    def is_active(self) -> bool:
        return self in (JobState.PENDING, JobState.RUNNING)


class WaitingFor(msgspec.Struct, frozen=True):
    """One thing that a pending job waits for."""

    kind: str
    """`stim`, `rollout` or `bake`: that stage of `name` must end first; `turn`: other jobs run now; `engine`: it is not
    ready."""
    name: str | None
    """`repo/name` of the target or bake; null for `turn` and `engine`."""
    text: str
    """The same as a sentence for people."""


class Standing(msgspec.Struct, frozen=True):
    """How a job stands in the queue, and how fast it is. Times are in seconds."""

    waiting_for: list[WaitingFor] = []
    """Empty unless the job is pending."""
    queue_position: int | None = None
    """Place among the pending jobs of its kind with complete inputs, 1 is the next to run; null for all others."""
    queued_seconds: float | None = None
    """Time since the job was started during which it did not run. Null for jobs of older versions."""
    running_seconds: float | None = None
    """Time during which it ran. The time before a crash of the service counts as queued."""
    eta_seconds: float | None = None
    """Time until its last item or step, at the speed so far; null if unknown, or if it does not run."""
    lines: int = 0
    """Number of items: those on disk, and in a running stim those of unfinished answers."""
    progress_percent: float = 0.0


class Pace:
    """How many items a running job has, and how fast they come."""

    def __init__(self, items: int, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: items: number that was there when the job began to run."""
        self._first, self._began, self._clock = items, clock(), clock
        self.items, self._total = items, total

    def update(self, items: int, total: int) -> None:
        """Items never become fewer while a job runs."""
        self.items, self._total = max(self.items, items), total

    @property
    def percent(self) -> float:
        return round(100.0 * self.items / self._total, 1) if self._total else 0.0

    @property
    def eta_seconds(self) -> float | None:
        """None before the first new item. While no item comes, it grows."""
        new = self.items - self._first
        missing = max(0, self._total - self.items)
        return round((self._clock() - self._began) * missing / new, 1) if new > 0 else None


NEGLIGIBLE_KL = 2e-3
"""Nats per token. Rounding alone, between engine (bfloat16) and trainer (float32), gave 1.2e-3 on SmolLM2-135M."""


class KLChange(msgspec.Struct, frozen=True):
    """Forward KL on one target's held-out stimuli, in nats per response token."""

    before: float
    """Before training."""
    after: float
    """At the latest evaluation."""


class AgreementChange(msgspec.Struct, frozen=True):
    """Share of one target's held-out response tokens at which student and teacher have the same likeliest token."""

    before: float
    """Before training."""
    after: float
    """At the latest evaluation."""


class Loss(msgspec.Struct, frozen=True, omit_defaults=True):
    """Training loss of a bake so far, in nats per response token, and the results of its evaluations."""

    latest_loss: float | None = None
    """Loss of the latest optimizer step."""
    final_loss: float | None = None
    """The same as `latest_loss`."""
    min_loss: float | None = None
    """Lowest loss of a step."""
    max_loss: float | None = None
    """Highest loss of a step."""
    eval_kl_before: float | None = None
    """`eval_kl` before training."""
    eval_kl: float | None = None
    """Forward KL(teacher || student) on held-out stimuli. It does not depend on the divergence that is trained, so that
    bakes can be compared."""
    recovered: float | None = None
    """Share of the prompt's effect that the bake reproduces: 1 - eval_kl / eval_kl_before. Absent if eval_kl_before is
    negligible."""
    eval_kl_by_target: dict[str, KLChange] = {}
    """Forward KL before training and now, for each target."""
    agreement_before: float | None = None
    """`agreement` before training."""
    agreement: float | None = None
    """Share of held-out response tokens at which student and teacher have the same likeliest token."""
    agreement_by_target: dict[str, AgreementChange] = {}
    """Agreement before training and now, for each target."""
    drift_before: float | None = None
    """`drift` before training: 0 unless the bake starts from another bake."""
    drift: float | None = None
    """KL(base || baked) in nats per token on questions that have nothing to do with the targets
    (`trajectories/neutral.py`). Measured when training has ended."""

    def after_step(self, latest: float) -> "Loss":
        """The summary after one more step."""
        lowest = latest if self.min_loss is None else min(latest, self.min_loss)
        highest = latest if self.max_loss is None else max(latest, self.max_loss)
        return msgspec.structs.replace(self, latest_loss=latest, final_loss=latest, min_loss=lowest, max_loss=highest)

    def after_evaluation(
        self,
        eval_kl: float,
        by_target: dict[str, float],
        agreement: float | None = None,
        agreement_by_target: dict[str, float] | None = None,
    ) -> "Loss":
        """The summary after one more evaluation. The first one measures the state before training, and sets only the
        values of before."""
        is_first = self.eval_kl_before is None
        before = eval_kl if self.eval_kl_before is None else self.eval_kl_before
        kl_so_far, agreement_so_far = self.eval_kl_by_target, self.agreement_by_target
        return msgspec.structs.replace(
            self,
            eval_kl_before=before,
            eval_kl=None if is_first else eval_kl,
            recovered=None if is_first or before < NEGLIGIBLE_KL else 1.0 - eval_kl / before,
            eval_kl_by_target={
                target: KLChange(kl_so_far[target].before if target in kl_so_far else kl, kl)
                for target, kl in by_target.items()
            },
            agreement_before=agreement if is_first else self.agreement_before,
            agreement=None if is_first else agreement,
            agreement_by_target={
                target: AgreementChange(agreement_so_far[target].before if target in agreement_so_far else share, share)
                for target, share in (agreement_by_target or {}).items()
            },
        )

    def after_drift(self, step: int, drift: float) -> "Loss":
        """The summary after a measurement of the drift; step 0 is the state before training."""
        if step == 0:
            return msgspec.structs.replace(self, drift_before=drift)
        return msgspec.structs.replace(self, drift=drift)


class Progress(msgspec.Struct, frozen=True):
    """Progress of a training after an optimizer step."""

    step: int
    """Number of optimizer steps done."""
    total_steps: int
    """Number of optimizer steps of the whole training, all on-policy rounds included."""
    epoch: float
    """Number of passes over the data so far, with a fraction."""
    loss: float
    """Mean divergence over the step's response tokens, in nats."""
    lr: float
    """Learning rate of the step."""
    grad_norm: float
    """Gradient norm before clipping."""
    tokens_per_second: float
    """Tokens of contexts and responses processed per second, without padding."""
    eta_seconds: float = 0.0
    """Seconds until the last step, estimated from the mean step time since the training started or resumed."""
    memory_bytes: int = 0
    """Peak main memory of the training process (resident set), in bytes."""
    device_memory_bytes: int | None = None
    """Peak GPU memory of the training process, in bytes; null without a GPU."""
    round: int = 0
    """Number of the on-policy round; 0 before the first."""
    rounds: int = 0
    """Number of on-policy rounds in all."""
    answers: int | None = None
    """Number of answers that the student has given for this round, while it answers; null while it trains."""


class MemoryWay(StrEnum):
    """How a training gets the memory that it needs."""

    BESIDE = "beside"
    """It fits while the engine keeps serving."""
    ASLEEP = "asleep"
    """The engine frees its device memory during the training, and its requests wait."""
    REFUSED = "refused"
    """It does not fit."""


class MemoryPlan(msgspec.Struct, frozen=True):
    """Memory that a training needs, estimated before it loads anything. All sizes are bytes on each device."""

    way: MemoryWay
    """Whether it fits beside the engine (`beside`), only while the engine sleeps (`asleep`), or not at all
    (`refused`)."""
    needed: dict[str, int]
    """Bytes by part: `weights` of the base, `adapter` (with gradients and optimizer), `activations`, `logits`,
    `runtime`."""
    total: int
    """Sum of `needed`."""
    free: int | None
    """Bytes that were free at the time of the estimate; null if the system does not report it."""
    devices: int
    """Number of devices that share the training."""
    in_parts: bool
    """Whether the base's weights are split among the devices (FSDP)."""
    recomputes: bool
    """Whether activations are recomputed in the backward pass instead of kept."""
    is_lent: bool = False
    """Whether the training uses the engine's own weights, which takes no memory for a copy."""


class TargetShare(msgspec.Struct, frozen=True):
    """One target's part in the mix of a bake."""

    weight: float
    """Sampling weight from the config; only its ratio to the other weights counts."""
    share: float
    """Share of the mix: `trajectories` / rows of the mix."""
    trajectories: int
    """Number of the target's rows in the mix; a row may be in it more than once."""
    available: int
    """Number of rows that could be drawn from."""
    held_out: int
    """Number of rows that are only evaluated, never trained on."""


class Collation(msgspec.Struct, frozen=True):
    """How the trajectories of a bake's targets were mixed."""

    total: int
    """Number of rows in the mix."""
    held_out: int
    """Number of rows that are only evaluated, over all targets."""
    targets: dict[str, TargetShare]
    """Part of each target with weight, by name."""
