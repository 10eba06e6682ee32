"""The training loop: batches -> optimizer steps, with events and metrics rows on the way.

What is trained on and what becomes of the result is `train.py`'s to say. A loop that goes on from another's state does
what that one would have done, to the bit where the device repeats itself (a CPU does). Several processes share each
step's rows and each evaluation's batches: the sums are those of one process but for rounding.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from baker.config.bake import BakeConfig, epochs_for
from baker.errors import TrainingError
from baker.free_memory import peak_bytes
from baker.status import NEGLIGIBLE_KL, Loss
from baker.training import events
from baker.training.data.batches import READ_ROWS, Batch, length_of, make_batch, plan_epoch, read_together
from baker.training.data.work_split import share
from baker.training.devices.parallel import like, whole
from baker.training.devices.ranks import ALONE, Ranks
from baker.training.events import Emit
from baker.training.model.divergences import Measure
from baker.training.model.student import Compared, Student, total
from baker.training.model.teacher_states import TeacherStates
from baker.training.run.metrics import Metrics
from baker.training.run.schedule import schedule
from baker.training.spec import BEFORE_ROUNDS, Round
from baker.training.state import Standing, TrainingState
from baker.types import Trajectory

FLOAT16_LOSS_SCALE = 1024.0
"""float16 has no gradient below 6e-8, and few digits below 6e-5. A power of two, so it is undone exactly."""


class Stopped(Exception):  # noqa: N818  # no error: somebody asked for it
    """The training was told to stop, and stands between two steps."""


class Step(NamedTuple):
    """What this process does of an optimizer step, and the size of the whole of it."""

    batches: list[Batch]
    counted: int
    """The batches from here on weigh nothing: see `shares.py`."""
    responses: int
    """Response tokens, of all processes, as the two that follow."""
    tokens: int
    longest: int
    """Tokens of the longest row."""


class StepInFlight(NamedTuple):
    """A step that the device may still work on."""

    begin: float
    """When it began, in monotonic seconds. The next one's batches are made within it, the teacher's states too."""
    rate: float
    """Of learning."""
    losses: list[tuple[float, Tensor]]
    """Of each batch, its share of the step's mean and its sum, in nats."""
    norm: Tensor
    """Of the gradients, before they were clipped."""


class Loop:
    def __init__(
        self,
        student: Student,
        config: BakeConfig,
        rows: list[Trajectory],
        held_out: Mapping[str, list[Trajectory]],
        metrics: Metrics,
        emit: Emit,
        is_stopping: Callable[[], bool] = lambda: False,
        neutral: Sequence[Trajectory] = (),
        *,
        has_parent: bool = False,
        part: Round = BEFORE_ROUNDS,
        ranks: Ranks = ALONE,
    ) -> None:
        """Args:
        held_out: by target.
        neutral: the base model's own answers, which tell the drift.
        has_parent: the model is another one than the base from the start.
        is_stopping: asked before each batch; once it says so in any process, `steps` raises `Stopped` in all.
        part: the round of the training that `rows` are for; one but the first needs `restore`.
        """
        self._student, self._config, self._rows, self._metrics, self._emit = student, config, rows, metrics, emit
        self._is_stopping, self._round, self._ranks = is_stopping, part, ranks
        self._measure = Measure(config.data.beta or 0.0, config.data.temperature)
        self._loss_scale = FLOAT16_LOSS_SCALE if student.model.dtype == torch.float16 else 1.0
        self._hidden_weight = config.data.hidden_weight
        layers = student.middle if self._hidden_weight else ()
        is_kept = config.data.has_full_teacher and not student.parallel.in_parts
        has_states = is_kept and TeacherStates.fit(student, rows, layers)
        self._lengths = [length_of(row) for row in rows]
        first_pass = [rows[index] for group in self._plan(0) for index in group]
        self._teacher = TeacherStates(student, first_pass, layers) if has_states else None
        self._held_out = {target: _batches(own) for target, own in held_out.items()}
        self._neutral, self._has_parent = _batches(neutral), has_parent
        on_policy = config.data.on_policy
        self.steps_per_epoch = self._steps_for(len(rows))
        self._epochs = on_policy.epochs if part.number else config.epochs or epochs_for(len(rows))
        self._passes = 0
        """Over the data of the rounds before."""
        self.last_step = part.first_step + self.steps_per_epoch * self._epochs
        """Of this round."""
        of_a_round = self.steps_per_epoch if part.number else self._steps_for(sum(on_policy.rows(len(rows))))
        self.total_steps = self.last_step + (on_policy.rounds - part.number) * of_a_round * on_policy.epochs
        """Of all rounds, if the student answers all that it is asked."""
        self.parameters = [parameter for parameter in student.model.parameters() if parameter.requires_grad]
        optimizer = config.optimizer
        self._optimizer = torch.optim.AdamW(
            self.parameters,
            lr=optimizer.learning_rate,
            betas=optimizer.betas,
            weight_decay=optimizer.weight_decay,
            fused=True,
        )
        self.loss = Loss()
        self.losses: list[float] = []
        """Of each step, in nats per response token."""
        self.evaluations: list[events.Evaluated] = []
        """Before, during and after; empty without a held-out part."""
        self.drifts: list[events.Drifted] = []
        """Before and after; empty without neutral answers."""
        self.step = 0
        """Optimizer steps done."""
        self._seed_apart()
        self._random = self._random_state()
        """After the last whole step: one that was broken off has drawn its dropout in vain."""
        self._begin, self._first = time.monotonic(), 0
        """When and after which step this process began to train."""

    def steps(self) -> Iterator[int]:
        """Train, and stop after each optimizer step with its number, 1 the first.

        Raises: TrainingError if the loss is not finite or there is nothing to learn from; Stopped.
        """
        if self._evaluate() and self.step > self._round.first_step:
            yield self.step
        self._begin, self._first = time.monotonic(), self.step
        while self.step < self.last_step:
            work = self._steps_of(*divmod(self.step - self._round.first_step, self.steps_per_epoch))
            following = next(work, None)
            while (current := following) is not None:
                in_flight = self._begin_step(current)
                following = next(work, None)  # meanwhile a GPU computes
                self._end_step(current, in_flight)
                self._evaluate()
                yield self.step

    def state(self) -> TrainingState:
        """All that another loop over the same data needs to go on after the last whole step, on as many devices or
        others. Every process must ask."""
        tensors = {f"weight.{index}": whole(weight) for index, weight in enumerate(self.parameters)}
        # In one order everywhere: one that was restored has its state's file's, which is chance.
        for index, values in sorted(self._optimizer.state_dict()["state"].items()):
            tensors |= {f"optimizer.{index}.{name}": whole(value) for name, value in sorted(values.items())}
        for rank, random in enumerate(self._ranks.gather(self._random)):
            tensors |= {f"random{rank or ''}.{name}": value for name, value in random.items()}
        arrays: dict[str, NDArray[Any]] = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        standing = Standing(
            step=self.step,
            rows=self._metrics.rows,
            loss=self.loss,
            losses=self.losses,
            evaluations=self.evaluations,
            drifts=self.drifts,
            round=self._round.number,
            passes=self._passes + self._epochs,
            at_once=self._student.most_rows,
        )
        return TrainingState(standing, arrays)

    def restore(self, state: TrainingState) -> None:
        """Go on where the loop stood that `state` is of."""
        standing = state.standing
        self.step, self.loss = standing.step, standing.loss
        self.losses, self.evaluations = list(standing.losses), list(standing.evaluations)
        self.drifts = list(standing.drifts)
        if self._round.number:
            self._passes = standing.passes - (self._epochs if standing.round == self._round.number else 0)
        optimizer: dict[int, dict[str, Tensor]] = {}
        random: dict[str, Tensor] = {}
        for name, array in state.arrays.items():
            kind, _, rest = name.partition(".")
            tensor = torch.tensor(array)  # a copy: what the file was read into is not torch's to keep
            match kind:
                case "weight":
                    parameter = self.parameters[int(rest)]
                    with torch.no_grad():
                        parameter.copy_(like(tensor, parameter))
                case "optimizer":
                    index, _, key = rest.partition(".")
                    parameter = self.parameters[int(index)]
                    is_moment = tensor.shape == parameter.shape
                    optimizer.setdefault(int(index), {})[key] = like(tensor, parameter) if is_moment else tensor
                case _ if kind == f"random{self._ranks.rank or ''}":
                    random[rest] = tensor
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": optimizer, "param_groups": groups})
        if not random:  # there were fewer processes then
            self._seed_apart()
            random = self._random_state()
        self._random |= random
        torch.set_rng_state(self._random["cpu"])
        if self._is_on_gpu:
            torch.cuda.set_rng_state(self._random["cuda"], self._student.device)

    def _seed_apart(self) -> None:
        """Each process drops out other things; the first one what it would drop alone."""
        if self._ranks.rank:
            torch.manual_seed(hash((self._config.seed, self._ranks.rank, self.step)) % 2**63)

    @property
    def _is_on_gpu(self) -> bool:
        return str(self._student.device.type) == "cuda"

    def _random_state(self) -> dict[str, Tensor]:
        state = {"cpu": torch.get_rng_state()}
        if self._is_on_gpu:
            state["cuda"] = torch.cuda.get_rng_state(self._student.device)
        return state

    def _check_going_on(self) -> None:
        if self._ranks.any(self._is_stopping()):
            raise Stopped

    def _plan(self, passes: int) -> list[list[int]]:
        """The batches of the pass that has so many before it."""
        seed = self._config.seed * 1_000_003 + passes
        return plan_epoch(self._lengths, self._config.micro_batch_size, seed=seed)

    def _steps_of(self, epoch: int, done: int) -> Iterator[Step]:
        """Each optimizer step of that epoch of the round, but for the first `done` of them."""
        config, groups = self._config, self._plan(self._passes + epoch)
        accumulated = config.gradient_accumulation_steps
        for at in range(done * accumulated, len(groups), accumulated):
            some = groups[at : at + accumulated]
            most = self._student.most_rows or config.micro_batch_size
            own = share(some, self._lengths, most, self._ranks.rank, self._ranks.size)
            everything = [index for group in some for index in group]
            yield Step(
                batches=[self._batch([self._rows[index] for index in group]) for group in own.groups],
                counted=own.counted,
                responses=sum(len(self._rows[index].response_ids) for index in everything),
                tokens=sum(self._lengths[index] for index in everything),
                longest=max(self._lengths[index] for index in everything),
            )

    def _batch(self, rows: list[Trajectory]) -> Batch:
        if self._teacher is not None:
            return make_batch(rows)._replace(teacher_states_NLD=self._teacher.of(rows))
        return make_batch(rows, has_teacher=self._config.data.has_full_teacher)

    def _begin_step(self, work: Step) -> StepInFlight:
        """All that the device has to do; `_end_step` waits for its results."""
        begin = time.monotonic()
        self._student.model.train()
        rate = self._config.optimizer.learning_rate * schedule(self._config.scheduler, self.step + 1, self.total_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        losses = self._backward(work)
        norm = nn.utils.clip_grad_norm_(self.parameters, self._config.optimizer.max_grad_norm)
        self._optimizer.step()
        return StepInFlight(begin, rate, losses, norm)

    def _end_step(self, work: Step, in_flight: StepInFlight) -> None:
        """Look at what came of it. Raises: TrainingError; what was trained is of no use then."""
        step = self.step + 1
        (loss,) = self._ranks.sum([sum(share * float(nats) for share, nats in in_flight.losses)])
        norm = float(whole(in_flight.norm))
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise TrainingError(
                f"step {step}: loss {loss}, gradient norm {norm}; lower optimizer.learning_rate "
                f"(now {self._config.optimizer.learning_rate:g})"
            )
        if norm == 0.0 and loss > NEGLIGIBLE_KL:
            raise TrainingError(f"step {step}: all gradients are zero at a loss of {loss:.4f}: the adapter can't learn")
        self.step = step
        self.losses.append(loss)
        self.loss = self.loss.after_step(loss)
        self._random = self._random_state()
        self._report(in_flight.rate, norm, work, time.monotonic() - in_flight.begin)

    def _backward(self, work: Step) -> list[tuple[float, Tensor]]:
        """Gradients of the mean over the step's response tokens. Returns: of each batch its share of that mean and its
        sum, in nats.

        Every token weighs the same, however the step is cut into batches and they are shared out.
        """
        self._optimizer.zero_grad(set_to_none=True)
        losses = []
        for index, batch in enumerate(work.batches):
            self._check_going_on()
            with nullcontext() if index == len(work.batches) - 1 else self._student.parallel.unsynced():
                lesson = self._student.lesson(batch.to(self._student.device), self._measure, self._hidden_weight)
                share = 1.0 / work.responses if index < work.counted else 0.0
                (lesson.loss * (share * self._loss_scale * self._student.parallel.size)).backward()
            losses.append((share, lesson.divergence.detach()))
        if self._loss_scale != 1.0:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad /= self._loss_scale
        return losses

    def _report(self, rate: float, norm: float, work: Step, seconds: float) -> None:
        now = time.monotonic()
        event = events.Stepped(
            step=self.step,
            total_steps=self.total_steps,
            epoch=self._epoch,
            loss=self.losses[-1],
            lr=rate,
            grad_norm=norm,
            tokens_per_second=round(work.tokens / max(seconds, 1e-9), 1),
            eta_seconds=round((now - self._begin) / (self.step - self._first) * (self.total_steps - self.step), 1),
            memory_bytes=peak_bytes(),
            device_memory_bytes=torch.cuda.max_memory_allocated(self._student.device) if self._is_on_gpu else None,
            round=self._round.number,
            rounds=self._config.data.on_policy.rounds,
        )
        self._emit(events.LossUpdated(self.loss))
        self._emit(event)
        if self.step % self._config.train_log_iter_interval == 0 or self.step == self.last_step:
            row = {
                "iter": event.step,
                "epoch": event.epoch,
                "loss": event.loss,
                "lr": event.lr,
                "grad_norm": event.grad_norm,
                "tokens_per_second": event.tokens_per_second,
                "seqlen": work.longest,
                "iter_time": round(seconds, 4),
                "eta_seconds": event.eta_seconds,
                "memory_bytes": event.memory_bytes,
            }
            if event.device_memory_bytes is not None:
                row["device_memory_bytes"] = event.device_memory_bytes
            self._metrics.add(row | self._round_of_row() | self._metrics.costs)

    def _evaluate(self) -> bool:
        """Measure what is due after this step. Returns: whether anything was."""
        is_due, is_drift_due = self._is_evaluation_missing(), self._is_drift_missing()
        if is_due:
            self._evaluate_held_out()
        if is_drift_due:
            self._measure_drift()
        return is_due or is_drift_due

    def _is_evaluation_missing(self) -> bool:
        """Whether one is due after this step, and not done yet."""
        interval = self._config.eval_interval
        is_at_an_end = self.step in (0, self._round.first_step, self.last_step)
        is_due = is_at_an_end or (interval > 0 and self.step % interval == 0)
        is_done = bool(self.evaluations) and self.evaluations[-1].step == self.step
        return bool(self._held_out) and is_due and not is_done

    def _evaluate_held_out(self) -> None:
        found = {target: self._compare(batches) for target, batches in self._held_out.items()}
        overall = total(found.values())
        if not math.isfinite(overall.kl):
            raise TrainingError(
                f"step {self.step}: the held-out divergence is {overall.kl}; lower optimizer.learning_rate"
            )
        event = events.Evaluated(
            self.step,
            overall.kl,
            {target: part.kl for target, part in found.items()},
            overall.agreement,
            {target: part.agreement for target, part in found.items()},
        )
        self.evaluations.append(event)
        self.loss = self.loss.after_evaluation(
            event.eval_kl, event.by_target, event.agreement, event.agreement_by_target
        )
        self._emit(events.LossUpdated(self.loss))
        self._emit(event)
        row = {
            "iter": self.step,
            "epoch": self._epoch,
            "eval_loss": event.eval_kl,
            "eval_kl_by_target": event.by_target,
            "eval_agreement": event.agreement,
            "eval_agreement_by_target": event.agreement_by_target,
        }
        if self.loss.recovered is not None:
            row["recovered"] = self.loss.recovered
        self._metrics.add(row | self._round_of_row())

    def _is_drift_missing(self) -> bool:
        is_done = bool(self.drifts) and self.drifts[-1].step == self.step
        return bool(self._neutral) and self.step in (0, self.total_steps) and not is_done

    def _measure_drift(self) -> None:
        """What begins from the base has not drifted yet: that is known, and not measured."""
        drift = self._compare(self._neutral).kl if self.step or self._has_parent else 0.0
        if not math.isfinite(drift):
            raise TrainingError(f"step {self.step}: the drift is {drift}; lower optimizer.learning_rate")
        event = events.Drifted(self.step, drift)
        self.drifts.append(event)
        self.loss = self.loss.after_drift(event.step, drift)
        self._emit(events.LossUpdated(self.loss))
        self._emit(event)
        self._metrics.add({"iter": self.step, "epoch": self._epoch, "drift": drift} | self._round_of_row())

    def _compare(self, batches: list[Batch]) -> Compared:
        """The batches are shared out; all processes make as many passes."""
        found = []
        for at in range(0, len(batches), self._ranks.size):
            self._check_going_on()
            own = at + self._ranks.rank
            part = self._student.compare(batches[own if own < len(batches) else at])
            found += [part] if own < len(batches) else []
        nats, agreed, tokens = self._ranks.sum(total(found))
        return Compared(nats, int(agreed), int(tokens))

    def _round_of_row(self) -> dict[str, int]:
        return {"round": self._round.number} if self._config.data.on_policy.rounds else {}

    @property
    def is_last_round(self) -> bool:
        return self.last_step == self.total_steps

    @property
    def _epoch(self) -> float:
        return round(self._passes + (self.step - self._round.first_step) / self.steps_per_epoch, 4)

    def _steps_for(self, rows: int) -> int:
        """One pass over so many."""
        return -(-rows // (self._config.micro_batch_size * self._config.gradient_accumulation_steps))


def _batches(rows: Sequence[Trajectory]) -> list[Batch]:
    plan = plan_epoch([length_of(row) for row in rows], READ_ROWS, seed=0)
    return [make_batch(some) for group in plan for some in read_together([rows[index] for index in group])]
