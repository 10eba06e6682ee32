"""The model that learns: where it is loaded, the type it computes in, and its numbers at response positions only.

Nothing is computed for nothing: no attention mask (rows are padded on the right), no key-value cache, and logits
only where a response token is predicted.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from baker.batches import Batch
from baker.errors import StageError, TrainingError
from baker.losses import forward_kl, head_kl

_PROBE_LENGTH = 8


def pick_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it; float32 where it would be emulated.

    Measured on 2 cores of an Ice Lake server (AVX-512 without its bf16 part): 45 to 55 GFLOP/s in bfloat16, 135 to
    220 in float32.
    """
    if device.type == "cuda":
        return torch.bfloat16
    has = torch.cpu.get_capabilities()
    return torch.bfloat16 if has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16") else torch.float32


def load_base(folder: Path, device: torch.device) -> PreTrainedModel:
    """The base model, frozen, in the type of `pick_dtype`. Raises: StageError if the folder holds no such model."""
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=pick_dtype(device), attn_implementation="sdpa", local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise StageError(f"base model {folder} can't be loaded: {error}") from error
    assert isinstance(model, PreTrainedModel)
    model.requires_grad_(False)
    return model.to(device)


class Student:
    """A base model, adapted in place or not, and its divergence from the teacher. Holds no state of its own."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.device = model.device
        self.vocabulary = int(model.get_input_embeddings().num_embeddings)
        self._decoder: nn.Module = model.get_decoder()
        self._head: nn.Module = model.get_output_embeddings()
        self._has_plain_head = self._is_head_plain()

    def kl(self, batch: Batch) -> Tensor:
        """The sum of `forward_kl` over the batch's N response tokens: float32 scalar, in nats."""
        if self._has_plain_head:
            return head_kl(self._hidden(batch), self._head.weight, batch.top_ids_NK, batch.top_logprobs_NK)
        return forward_kl(self._logits(batch), batch.top_ids_NK, batch.top_logprobs_NK).sum()

    def mean_kl(self, batches: list[Batch]) -> float:
        """Nats per response token over `batches`, without gradient or dropout."""
        self.model.eval()
        with torch.no_grad():
            total = sum(float(self.kl(batch.to(self.device))) for batch in batches)
        return total / sum(len(batch.response_ids_N) for batch in batches)

    def response_logprobs(self, batch: Batch) -> list[float]:
        """The log-probabilities of the batch's N response tokens, in nats."""
        self.model.eval()
        batch = batch.to(self.device)
        with torch.no_grad():
            logprobs_NV = self._logits(batch).float().log_softmax(-1)
        logprobs_N1 = logprobs_NV.gather(-1, batch.response_ids_N[:, None])
        return [float(value) for value in logprobs_N1.squeeze(-1).cpu()]

    def _hidden(self, batch: Batch) -> Tensor:
        """The last hidden states that predict response tokens, (N, D)."""
        output = self._decoder(input_ids=batch.input_ids_BT, use_cache=False)
        hidden_ND: Tensor = output.last_hidden_state.flatten(0, 1)[batch.positions_N]
        return hidden_ND

    def _logits(self, batch: Batch) -> Tensor:
        """The logits that predict response tokens, (N, V), through the model's own forward."""
        columns = batch.input_ids_BT.shape[1]
        wanted = torch.unique(batch.positions_N % columns)  # logits_to_keep takes the same columns of every row
        output = self.model(input_ids=batch.input_ids_BT, use_cache=False, logits_to_keep=wanted)
        at = torch.searchsorted(wanted, batch.positions_N % columns)
        logits_NV: Tensor = output.logits[batch.positions_N // columns, at]
        return logits_NV

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
