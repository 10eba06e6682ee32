"""A job and everything that its status shows."""

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


NEGLIGIBLE_KL = 2e-3
"""Nats per token: the rounding of engine (bfloat16) and trainer (float32) alone made 1.2e-3 on SmolLM2-135M."""


class KLChange(msgspec.Struct, frozen=True):
    """A divergence on held-out stimuli, in nats per response token."""

    before: float
    after: float
    """So far, while the bake runs."""


class AgreementChange(msgspec.Struct, frozen=True):
    """A share of response tokens on held-out stimuli: those whose likeliest token is the teacher's."""

    before: float
    after: float
    """So far, while the bake runs."""


class Loss(msgspec.Struct, frozen=True, omit_defaults=True):
    """The loss of a bake so far, in nats per response token, and what else its evaluations found."""

    latest_loss: float | None = None
    final_loss: float | None = None
    min_loss: float | None = None
    max_loss: float | None = None
    eval_kl_before: float | None = None
    eval_kl: float | None = None
    """The forward KL on held-out stimuli, whatever divergence is trained, so that bakes compare."""
    recovered: float | None = None
    """1 - eval_kl / eval_kl_before; absent where there was next to nothing to recover."""
    eval_kl_by_target: dict[str, KLChange] = {}
    agreement_before: float | None = None
    agreement: float | None = None
    """The share of held-out response tokens at which student and teacher have the same likeliest token."""
    agreement_by_target: dict[str, AgreementChange] = {}
    drift_before: float | None = None
    """0 unless the bake began from another one."""
    drift: float | None = None
    """KL(base || baked) on neutral questions, see `neutral.py`; known when the training is done."""

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
        """The summary after one more evaluation; the first one is the state before training."""
        is_first = self.eval_kl_before is None
        before = eval_kl if self.eval_kl_before is None else self.eval_kl_before
        known, agreed = self.eval_kl_by_target, self.agreement_by_target
        return msgspec.structs.replace(
            self,
            eval_kl_before=before,
            eval_kl=eval_kl,
            recovered=None if is_first or before < NEGLIGIBLE_KL else 1.0 - eval_kl / before,
            eval_kl_by_target={
                target: KLChange(known[target].before if target in known else kl, kl)
                for target, kl in by_target.items()
            },
            agreement_before=agreement if is_first else self.agreement_before,
            agreement=agreement,
            agreement_by_target={
                target: AgreementChange(agreed[target].before if target in agreed else share, share)
                for target, share in (agreement_by_target or {}).items()
            },
        )

    def after_drift(self, step: int, drift: float) -> "Loss":
        """The summary after the drift was measured; step 0 is the state before training."""
        return msgspec.structs.replace(self, drift_before=drift if step == 0 else self.drift_before, drift=drift)


class Progress(msgspec.Struct, frozen=True):
    """Where a training stands after an optimizer step."""

    step: int
    """Optimizer steps so far."""
    total_steps: int
    epoch: float
    loss: float
    """Mean divergence of the step's response tokens, in nats."""
    lr: float
    grad_norm: float
    """Before it is scaled down."""
    tokens_per_second: float
    """Tokens of contexts and responses, padding not counted."""
    eta_seconds: float = 0.0
    """Time left, if the steps to come take as long as those since the training was begun or taken up."""
    memory_bytes: int = 0
    """Most that the process held of the machine's memory (resident set)."""
    device_memory_bytes: int | None = None
    """Most that it held of the GPU's; None without one."""
    round: int = 0
    """The on-policy round; 0: before them."""
    rounds: int = 0
    """So many there are."""
    answers: int | None = None
    """While the student answers for that round: so many it has given."""


class MemoryWay(StrEnum):
    """How a training comes by its memory."""

    BESIDE = "beside"
    """The engine serves on."""
    ASLEEP = "asleep"
    """The engine gives the device's memory back, and its requests wait."""
    REFUSED = "refused"
    """It does not fit."""


class MemoryPlan(msgspec.Struct, frozen=True):
    """What a training was found to need before it loaded anything, in bytes on each of its devices."""

    way: MemoryWay
    needed: dict[str, int]
    """By part: `weights` of the base, `adapter` (with gradients and optimizer), `activations`, `logits`, `runtime`."""
    total: int
    free: int | None
    """Then; null where the system does not say."""
    devices: int
    in_parts: bool
    """Whether the base's weights are parted among the devices."""
    recomputes: bool
    """Whether activations are computed again instead of kept."""
    is_lent: bool = False
    """Whether the base's weights are the engine's own, which takes none."""


class TargetShare(msgspec.Struct, frozen=True):
    """What one target gave to a bake."""

    weight: float
    """As configured; only its ratio to the others' counts."""
    share: float
    """Of the mix: `trajectories` over all of them."""
    trajectories: int
    """Rows in the mix; a row may stand there more than once."""
    available: int
    """Rows that it had to draw them from."""
    held_out: int
    """Rows that are only evaluated."""


class Collation(msgspec.Struct, frozen=True):
    """How the trajectories of a bake's targets were mixed."""

    total: int
    """Rows in the mix."""
    held_out: int
    targets: dict[str, TargetShare]
