"""The model that learns: where it is loaded, the type it computes in, and its numbers at response positions only.

Nothing is computed for nothing: no padding and no shared beginning twice where the model can read a packed line, no
attention mask, no key-value cache, and logits only where a response token is predicted.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from baker.errors import TrainingError
from baker.training.data.batches import Batch, as_taught, make_batch
from baker.training.data.packing import LEAST_SHARED, pack
from baker.training.devices.parallel import WHOLE, Parallel, layers_of
from baker.training.model.attention import PACKED, as_taken
from baker.training.model.base import SDPA
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
from baker.types import Trajectory

MIDDLE_PARTS = 5
"""Of the depth: layers 6, 12, 18 and 24 of 30 are compared with the teacher's, and the last."""


_PROBE_LENGTH = 8
MAX_FAILURE = 300
"""Characters of what a compiler says."""

log = logging.getLogger(__name__)


class Lesson(NamedTuple):
    """Sums over the response tokens of a batch."""

    loss: Tensor
    """What is minimised."""
    divergence: Tensor
    """Of it, in nats."""


class Compared(NamedTuple):
    """Teacher and student over some response tokens."""

    nats: float
    """Their forward KL, summed."""
    agreed: int
    """Tokens at which both have the same likeliest one."""
    tokens: int

    @property
    def kl(self) -> float:
        """The forward KL of a token, in nats. NaN without any."""
        return self.nats / self.tokens if self.tokens else math.nan

    @property
    def agreement(self) -> float:
        """The share of the tokens that agreed. NaN without any."""
        return self.agreed / self.tokens if self.tokens else math.nan


def total(parts: Iterable[Compared]) -> Compared:
    """All of them in one; every token weighs the same."""
    nats, agreed, tokens = 0.0, 0, 0
    for part in parts:
        nats, agreed, tokens = nats + part.nats, agreed + part.agreed, tokens + part.tokens
    return Compared(nats, agreed, tokens)


class Student:
    """A base model, adapted in place or not, and its divergence from the teacher. Holds no state of its own."""

    def __init__(self, model: PreTrainedModel, parallel: Parallel = WHOLE, most_rows: int | None = None) -> None:
        """Args: most_rows: of a training's forward pass, as memory allows; None: as many as it is given."""
        self.model = model.eval()
        self.parallel = parallel
        self.most_rows = most_rows
        self.device = model.device
        self.vocabulary = int(model.get_input_embeddings().num_embeddings)
        self._decoder: nn.Module = model.get_decoder()
        self._head: nn.Module = model.get_output_embeddings()
        self._has_plain_head: bool = parallel.through(self._is_head_plain)
        self.is_packed: bool = parallel.through(self._packs)
        depth = int(model.config.num_hidden_layers)
        self.middle = sorted({depth * part // MIDDLE_PARTS for part in range(1, MIDDLE_PARTS)} - {0})
        """The layers that may be drawn to the teacher's."""
        self.as_teacher: Callable[[], AbstractContextManager[None]] = nullcontext
        """Within it, the model is the teacher."""
        self._as_written: Callable[[], AbstractContextManager[None]] = nullcontext
        """Within it, nothing runs compiled."""

    def divergence(self, batch: Batch, measure: Measure = FORWARD_KL) -> Tensor:
        """The sum of the divergence over the batch's N response tokens: float32 scalar, in nats.

        Over the whole vocabulary if the batch holds the teacher's side, else over the tokens that were kept of it.
        """
        return self.lesson(batch, measure).divergence

    def lesson(self, batch: Batch, measure: Measure = FORWARD_KL, hidden_weight: float = 0.0) -> Lesson:
        """What is minimised on the batch: the divergence, and `hidden_weight` times the distance of the middle layers
        from the teacher's. The latter only where the batch holds the teacher's side and the head is plain.
        """
        result: Lesson = self.parallel.through(self._lesson, batch, measure, hidden_weight)
        return result

    def _lesson(self, batch: Batch, measure: Measure, hidden_weight: float) -> Lesson:
        teacher_NLD = batch.teacher_states_NLD
        layers = self.middle if hidden_weight else ()
        if teacher_NLD is None and batch.teacher is not None and self._has_plain_head:
            teacher_NLD = self._taught(lambda of: self._states(of, layers), batch.teacher)
        if teacher_NLD is None:
            found = self._divergence_of_logits(batch, measure)
            return Lesson(found, found)
        states_NLD = self._states(batch, layers)
        found = full_head_divergence(states_NLD[:, -1], teacher_NLD[:, -1], self._head.weight, measure)
        if not layers:
            return Lesson(found, found)
        distance = relative_distance(states_NLD[:, :-1], teacher_NLD[:, :-1])
        return Lesson(found + hidden_weight * distance, found)

    def _divergence_of_logits(self, batch: Batch, measure: Measure) -> Tensor:
        """As `divergence`, from what the rollout kept of the teacher, or for a head that is not plain."""
        if batch.teacher is not None:
            taught_NV = self._taught(self._logits, batch.teacher)
            return full_divergence(self._logits(batch), taught_NV, measure).sum()
        ids_NK, logprobs_NK = batch.top_ids_NK, batch.top_logprobs_NK
        if self._has_plain_head:
            return head_divergence(self._hidden(batch), self._head.weight, ids_NK, logprobs_NK, measure)
        return divergence(self._logits(batch), ids_NK, logprobs_NK, measure).sum()

    def recompute_activations(self) -> None:
        """Keep what enters each layer, and compute the rest again in the backward pass: a third more work."""
        self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def compile_layers(self, batch: Batch, backend: str = "inductor") -> str | None:
        """Train with layers that torch's compiler has fused, from here on; without gradients they run as written.

        Args: batch: to try it on; any will do.
        Returns: why not, where there is no compiler for this machine; the layers are then as they were.
        """
        layers, is_training = layers_of(self.model), self.model.training
        self.model.enable_input_require_grads()  # the first layer is then like the others, and compiled with them
        for layer in layers:
            layer.forward = torch.compile(layer.forward, dynamic=True, backend=backend)
        self._as_written = partial(torch.compiler.set_stance, "force_eager")
        try:
            self.model.train()
            self.lesson(batch.to(self.device)).loss.backward()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of the compiler, of the C compiler that it calls, of the driver
            for layer in layers:
                del layer.forward
            self.model.disable_input_require_grads()
            self._as_written = nullcontext
            return " ".join(f"{type(error).__name__}: {error}".split())[:MAX_FAILURE]
        finally:
            self.model.train(is_training)
            self.model.zero_grad(set_to_none=True)
        return None

    def compare(self, batch: Batch) -> Compared:
        """Teacher and student over the batch's response tokens, without gradient or dropout."""
        self.model.eval()
        batch = batch.to(self.device)
        with torch.no_grad(), self._as_written():
            result: Compared = self.parallel.through(self._compare, batch)
        return result

    def _compare(self, batch: Batch) -> Compared:
        ids_NK, logprobs_NK = batch.top_ids_NK, batch.top_logprobs_NK
        if self._has_plain_head:
            found = head_compare(self._hidden(batch), self._head.weight, ids_NK, logprobs_NK)
        else:
            found = compare(self._logits(batch), ids_NK, logprobs_NK)
        return Compared(float(found.nats), int(found.agreed), len(ids_NK))

    def response_logprobs(self, batch: Batch) -> list[float]:
        """The log-probabilities of the batch's N response tokens, in nats."""
        self.model.eval()
        batch = batch.to(self.device)
        with torch.no_grad(), self._as_written():
            logprobs_NV = self.parallel.through(self._logits, batch).float().log_softmax(-1)
        logprobs_N1 = logprobs_NV.gather(-1, batch.response_ids_N[:, None])
        return [float(value) for value in logprobs_N1.squeeze(-1).cpu()]

    @property
    def state_bytes(self) -> int | None:
        """What a position's hidden state takes; None if logits are more than the head's product with it."""
        weight = self._head.weight
        return weight.shape[1] * weight.element_size() if self._has_plain_head else None

    def teacher_states(self, rows: Sequence[Trajectory], layers: Sequence[int] = ()) -> list[Tensor]:
        """Of each row the teacher's `_states` that predict its T response tokens, (T, L, D)."""
        batch = make_batch([as_taught(row) for row in rows]).to(self.device)
        states_NLD = self._taught(lambda of: self._states(of, layers), batch)
        return list(states_NLD.split([len(row.response_ids) for row in rows]))

    def _taught(self, compute: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        """What the teacher computes, without gradient or dropout."""
        is_training = self.model.training
        self.model.eval()
        with torch.no_grad(), self.as_teacher(), self._as_written():
            result = compute(batch)
        self.model.train(is_training)
        return result

    def _hidden(self, batch: Batch) -> Tensor:
        """The last hidden states that predict response tokens, (N, D)."""
        return self._states(batch)[:, -1]

    def _states(self, batch: Batch, layers: Sequence[int] = ()) -> Tensor:
        """The hidden states that predict response tokens: after so many layers each, and the last: (N, L, D)."""
        inputs, positions_N = self._inputs(batch)
        with self._entering(layers) as states:
            states.append(self._decoder(**inputs, use_cache=False).last_hidden_state)
        return torch.stack([state.flatten(0, 1)[positions_N] for state in states], 1)

    @contextmanager
    def _entering(self, layers: Sequence[int]) -> Iterator[list[Tensor]]:
        """What enters each of `layers` while the decoder runs within. transformers' own way to tell hangs hooks on all
        layers and their attention for good, which no compiler can trace."""
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
        wanted = torch.unique(positions_N % columns)  # logits_to_keep takes the same columns of every row
        output = self.model(**inputs, use_cache=False, logits_to_keep=wanted)
        at = torch.searchsorted(wanted, positions_N % columns)
        logits_NV: Tensor = output.logits[positions_N // columns, at]
        return logits_NV

    def _inputs(self, batch: Batch) -> tuple[dict[str, Any], Tensor]:
        """What the model is called with, and where its flattened output predicts response tokens."""
        if not self.is_packed:
            return {"input_ids": batch.input_ids_BT}, batch.positions_N
        line = batch.packing
        ids_1T = batch.input_ids_BT.flatten()[line.source_T][None]
        packing = as_taken(line, self.device, self.model.dtype)
        return {"input_ids": ids_1T, "position_ids": line.positions_T[None], "packing": packing}, line.responses_N

    def _packs(self) -> bool:
        """Whether the model reads packed lines, tried on two rows that share their beginning; `sdpa` is then replaced.

        A model whose attention is more than plain and causal (windows, caps, sinks), or is computed by code of its own,
        keeps padded rows.
        """
        if self.model.config._attn_implementation != SDPA:
            return False
        rows = [np.arange(2 * LEAST_SHARED) % self.vocabulary for _ in range(2)]
        rows[1][LEAST_SHARED:] = 0
        line = pack(rows, [1, 1]).to(self.device)
        ids_BT = torch.from_numpy(np.stack(rows)).to(self.device)
        ids_1T, positions_1T = ids_BT.flatten()[line.source_T][None], line.positions_T[None]
        with torch.no_grad():
            padded = self._decoder(input_ids=ids_BT, use_cache=False).last_hidden_state.flatten(0, 1)
            try:
                self.model.set_attn_implementation(PACKED)
                packed, ignored = (
                    self._decoder(input_ids=ids_1T, position_ids=positions_1T, use_cache=False, **how)
                    for how in ({"packing": as_taken(line, self.device, self.model.dtype)}, {})
                )
            except (NotImplementedError, TypeError, ValueError, KeyError) as error:
                log.info("rows are padded, not packed: %s", error)
                self.model.set_attn_implementation(SDPA)
                return False
        wrong, most = (float((x.last_hidden_state[0][line.responses_N] - padded).norm()) for x in (packed, ignored))
        is_equal = wrong < most / 2  # bfloat16 alone makes a fifth of it on SmolLM2
        if not is_equal:
            self.model.set_attn_implementation(SDPA)
        return is_equal

    def _is_head_plain(self) -> bool:
        """Whether logits are hidden states times the head's weight: some models scale or cap them (Gemma, Granite)."""
        weight = getattr(self._head, "weight", None)
        if not isinstance(self._head, nn.Linear) or self._head.bias is not None or weight is None:
            return False
        ids_1T = torch.arange(_PROBE_LENGTH, device=self.device)[None] % self.vocabulary
        with torch.no_grad():
            logits = self.model(input_ids=ids_1T, use_cache=False).logits
            plain = self._decoder(input_ids=ids_1T, use_cache=False).last_hidden_state @ weight.T
        if not torch.isfinite(logits).all():
            raise TrainingError("the base model's logits are not finite: its files may be damaged")
        return bool(torch.allclose(logits.float(), plain.float(), rtol=1e-2, atol=1e-2))
