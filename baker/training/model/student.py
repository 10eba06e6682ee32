"""The model that learns: its divergence from the teacher, computed only at the positions that predict response tokens.

It avoids needless work: where the model can read a packed line, no padding and no shared beginning twice; no attention
mask, no key-value cache, and logits only where a response token is predicted.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from baker.training.data.batches import Batch, make_batch, teacher_view
from baker.training.devices.parallel import ONE_DEVICE, Parallel, layers_of
from baker.training.model.attention import packing_argument
from baker.training.model.divergences import FORWARD_KL, Measure
from baker.training.model.losses import (
    compare,
    divergence,
    full_divergence,
    full_head_divergence,
    head_compare,
    head_divergence,
    relative_distance,
)
from baker.training.model.probes import is_head_plain, switch_to_packed, vocabulary_of
from baker.types import Trajectory

MIDDLE_PARTS = 5
"""Number of equal parts of the depth: of 30 layers, 6, 12, 18 and 24 are compared with the teacher's, and the last."""

MAX_FAILURE = 300
"""Characters of a compiler's message that are kept."""


class Lesson(NamedTuple):
    """Sums over the response tokens of a batch."""

    loss: Tensor
    """The sum that is minimised."""
    divergence: Tensor
    """The divergence from the teacher, in nats."""


class Compared(NamedTuple):
    """Teacher and student over some response tokens."""

    nats: float
    """Summed forward KL, in nats."""
    agreed: int
    """Number of tokens at which both have the same likeliest token."""
    tokens: int
    """Number of response tokens."""

    @property
    def kl(self) -> float:
        """Mean forward KL, in nats per token; NaN without tokens."""
        return self.nats / self.tokens if self.tokens else math.nan

    @property
    def agreement(self) -> float:
        """Share of the tokens that agree; NaN without tokens."""
        return self.agreed / self.tokens if self.tokens else math.nan


def total(parts: Iterable[Compared]) -> Compared:
    """The sum of `parts`, in which every token has the same weight."""
    nats, agreed, tokens = 0.0, 0, 0
    for part in parts:
        nats, agreed, tokens = nats + part.nats, agreed + part.agreed, tokens + part.tokens
    return Compared(nats, agreed, tokens)


class Student:
    """A base model, with an adapter or without, and its divergence from the teacher. Keeps no state of the training."""

    def __init__(self, model: PreTrainedModel, parallel: Parallel = ONE_DEVICE, most_rows: int | None = None) -> None:
        """Args: most_rows: largest number of rows that memory allows in a training's forward pass; None: any number.

        Raises: TrainingError if the model's logits are not finite.
        """
        self.model = model.eval()
        self.parallel = parallel
        self.most_rows = most_rows
        self.device = model.device
        self.vocabulary = vocabulary_of(model)
        self._decoder: nn.Module = model.get_decoder()
        self._head: nn.Module = model.get_output_embeddings()
        self._has_plain_head: bool = parallel.call(is_head_plain, model)
        self.is_packed: bool = parallel.call(switch_to_packed, model)
        """Whether the model reads packed lines."""
        depth = int(model.config.num_hidden_layers)
        self.middle_layers = sorted({depth * part // MIDDLE_PARTS for part in range(1, MIDDLE_PARTS)} - {0})
        """The layers whose inputs may be compared with the teacher's."""
        self.as_teacher: Callable[[], AbstractContextManager[None]] = nullcontext
        """Context in which the model computes as the teacher."""
        self._uncompiled: Callable[[], AbstractContextManager[None]] = nullcontext
        """Context in which no layer runs compiled."""

    def divergence(self, batch: Batch, measure: Measure = FORWARD_KL) -> Tensor:
        """The sum of the divergence over the batch's N response tokens: float32 scalar, in nats.

        Over the whole vocabulary if the batch holds the teacher's side, else over the top tokens that it holds.
        """
        return self.lesson(batch, measure).divergence

    def lesson(self, batch: Batch, measure: Measure = FORWARD_KL, hidden_weight: float = 0.0) -> Lesson:
        """The loss on the batch: the divergence, plus `hidden_weight` times the distance of the middle layers from the
        teacher's. That distance is only added if the batch holds the teacher's side and the head is plain.
        """
        result: Lesson = self.parallel.call(self._lesson, batch, measure, hidden_weight)
        return result

    def _lesson(self, batch: Batch, measure: Measure, hidden_weight: float) -> Lesson:
        teacher_NLD = batch.teacher_states_NLD
        layers = self.middle_layers if hidden_weight else ()
        if teacher_NLD is None and batch.teacher is not None and self._has_plain_head:
            teacher_NLD = self._compute_as_teacher(lambda taught: self._states(taught, layers), batch.teacher)
        if teacher_NLD is None:
            nats = self._divergence_of_logits(batch, measure)
            return Lesson(nats, nats)
        states_NLD = self._states(batch, layers)
        nats = full_head_divergence(states_NLD[:, -1], teacher_NLD[:, -1], self._head.weight, measure)
        if not layers:
            return Lesson(nats, nats)
        distance = relative_distance(states_NLD[:, :-1], teacher_NLD[:, :-1])
        return Lesson(nats + hidden_weight * distance, nats)

    def _divergence_of_logits(self, batch: Batch, measure: Measure) -> Tensor:
        """`divergence` from the top tokens that the rollout kept, or for a head that is not plain."""
        if batch.teacher is not None:
            teacher_NV = self._compute_as_teacher(self._logits, batch.teacher)
            return full_divergence(self._logits(batch), teacher_NV, measure).sum()
        ids_NK, logprobs_NK = batch.top_ids_NK, batch.top_logprobs_NK
        if self._has_plain_head:
            return head_divergence(self._hidden(batch), self._head.weight, ids_NK, logprobs_NK, measure)
        return divergence(self._logits(batch), ids_NK, logprobs_NK, measure).sum()

    def recompute_activations(self) -> None:
        """Keeps only each layer's input, and computes the rest again in the backward pass: a third more work."""
        self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def compile_layers(self, batch: Batch, backend: str = "inductor") -> str | None:
        """Compiles the decoder's layers for training; without gradients they still run uncompiled.

        Args: batch: any batch, to try it on.
        Returns: the reason if it fails, such as a machine without a compiler; the layers then stay as they were.
        """
        layers, is_training = layers_of(self.model), self.model.training
        self.model.enable_input_require_grads()  # makes the first layer like the others: one compilation serves all
        for layer in layers:
            layer.forward = torch.compile(layer.forward, dynamic=True, backend=backend)
        self._uncompiled = partial(torch.compiler.set_stance, "force_eager")
        try:
            self.model.train()
            self.lesson(batch.to(self.device)).loss.backward()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # from torch's compiler, the C compiler that it calls, or the driver
            for layer in layers:
                del layer.forward
            self.model.disable_input_require_grads()
            self._uncompiled = nullcontext
            return " ".join(f"{type(error).__name__}: {error}".split())[:MAX_FAILURE]
        finally:
            self.model.train(is_training)
            self.model.zero_grad(set_to_none=True)
        return None

    def compare(self, batch: Batch) -> Compared:
        """Teacher and student over the batch's response tokens, without gradient or dropout."""
        self.model.eval()
        batch = batch.to(self.device)
        with torch.no_grad(), self._uncompiled():
            result: Compared = self.parallel.call(self._compare, batch)
        return result

    def _compare(self, batch: Batch) -> Compared:
        ids_NK, logprobs_NK = batch.top_ids_NK, batch.top_logprobs_NK
        if self._has_plain_head:
            comparison = head_compare(self._hidden(batch), self._head.weight, ids_NK, logprobs_NK)
        else:
            comparison = compare(self._logits(batch), ids_NK, logprobs_NK)
        return Compared(float(comparison.nats), int(comparison.agreed), len(ids_NK))

    def response_logprobs(self, batch: Batch) -> list[float]:
        """The log-probabilities of the batch's N response tokens, in nats."""
        self.model.eval()
        batch = batch.to(self.device)
        with torch.no_grad(), self._uncompiled():
            logprobs_NV = self.parallel.call(self._logits, batch).float().log_softmax(-1)
        logprobs_N1 = logprobs_NV.gather(-1, batch.response_ids_N[:, None])
        return [float(value) for value in logprobs_N1.squeeze(-1).cpu()]

    @property
    def state_bytes(self) -> int | None:
        """Bytes of a position's hidden state; None if the head is not plain."""
        weight = self._head.weight
        return weight.shape[1] * weight.element_size() if self._has_plain_head else None

    def teacher_states(self, rows: Sequence[Trajectory], layers: Sequence[int] = ()) -> list[Tensor]:
        """For each row the teacher's `_states` that predict its T response tokens, (T, L, D)."""
        batch = make_batch([teacher_view(row) for row in rows]).to(self.device)
        states_NLD = self._compute_as_teacher(lambda taught: self._states(taught, layers), batch)
        return list(states_NLD.split([len(row.response_ids) for row in rows]))

    def _compute_as_teacher(self, compute: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        """`compute(batch)` with the teacher's weights, without gradient or dropout."""
        is_training = self.model.training
        self.model.eval()
        with torch.no_grad(), self.as_teacher(), self._uncompiled():
            result = compute(batch)
        self.model.train(is_training)
        return result

    def _hidden(self, batch: Batch) -> Tensor:
        """The last hidden states that predict response tokens, (N, D)."""
        return self._states(batch)[:, -1]

    def _states(self, batch: Batch, layers: Sequence[int] = ()) -> Tensor:
        """The hidden states that predict response tokens, (N, L, D): the input of each of `layers`, and the last."""
        inputs, positions_N = self._inputs(batch)
        with self._layer_inputs(layers) as states:
            states.append(self._decoder(**inputs, use_cache=False).last_hidden_state)
        return torch.stack([state.flatten(0, 1)[positions_N] for state in states], 1)

    @contextmanager
    def _layer_inputs(self, layers: Sequence[int]) -> Iterator[list[Tensor]]:
        """Collects the input of each of `layers` while the decoder runs inside. transformers' `output_hidden_states`
        puts permanent hooks on all layers and their attention, which no compiler can trace."""
        states: list[Tensor] = []

        def keep(layer: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            states.append(arguments[0] if arguments else named["hidden_states"])

        modules = layers_of(self.model) if layers else ()
        hooks = [modules[layer].register_forward_pre_hook(keep, with_kwargs=True) for layer in layers]
        try:
            yield states
        finally:
            for hook in hooks:
                hook.remove()

    def _logits(self, batch: Batch) -> Tensor:
        """The logits that predict response tokens, (N, V), through the model's own forward."""
        inputs, positions_N = self._inputs(batch)
        columns = inputs["input_ids"].shape[1]
        kept_columns = torch.unique(positions_N % columns)  # logits_to_keep takes the same columns of every row
        output = self.model(**inputs, use_cache=False, logits_to_keep=kept_columns)
        at = torch.searchsorted(kept_columns, positions_N % columns)
        logits_NV: Tensor = output.logits[positions_N // columns, at]
        return logits_NV

    def _inputs(self, batch: Batch) -> tuple[dict[str, Any], Tensor]:
        """The arguments of the model's call, and the positions of its flattened output that predict response tokens."""
        if not self.is_packed:
            return {"input_ids": batch.input_ids_BT}, batch.positions_N
        line = batch.packing
        ids_1T = batch.input_ids_BT.flatten()[line.source_T][None]
        packing = packing_argument(line, self.device, self.model.dtype)
        return {"input_ids": ids_1T, "position_ids": line.positions_T[None], "packing": packing}, line.responses_N
