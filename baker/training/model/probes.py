"""Finds out what a model can do by trying it on a few tokens."""

import logging

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from baker.errors import TrainingError
from baker.training.data.packing import LEAST_SHARED, pack
from baker.training.model.attention import PACKED, packing_argument
from baker.training.model.base import SDPA

_PROBE_LENGTH = 8

log = logging.getLogger(__name__)


def vocabulary_of(model: PreTrainedModel) -> int:
    """Number of rows of the table of input embeddings."""
    return int(model.get_input_embeddings().num_embeddings)


def is_head_plain(model: PreTrainedModel) -> bool:
    """Whether logits are hidden states times the head's weight: some models scale or cap them (Gemma, Granite).

    Raises: TrainingError if the logits are not finite.
    """
    head = model.get_output_embeddings()
    weight = getattr(head, "weight", None)
    if not isinstance(head, nn.Linear) or head.bias is not None or weight is None:
        return False
    ids_1T = torch.arange(_PROBE_LENGTH, device=model.device)[None] % vocabulary_of(model)
    with torch.no_grad():
        logits = model(input_ids=ids_1T, use_cache=False).logits
        product = model.get_decoder()(input_ids=ids_1T, use_cache=False).last_hidden_state @ weight.T
    if not torch.isfinite(logits).all():
        raise TrainingError("the base model's logits are not finite: its files may be damaged")
    return bool(torch.allclose(logits.float(), product.float(), rtol=1e-2, atol=1e-2))


def switch_to_packed(model: PreTrainedModel) -> bool:
    """Replaces `sdpa` by packed attention if the model reads packed lines. Returns: whether it does.

    Tried on two rows that share their beginning. A model whose attention is more than plain and causal (windows, caps,
    sinks), or is computed by its own code, keeps padded rows.
    """
    if model.config._attn_implementation != SDPA:
        return False
    device, decoder = model.device, model.get_decoder()
    rows = [np.arange(2 * LEAST_SHARED) % vocabulary_of(model) for _ in range(2)]
    rows[1][LEAST_SHARED:] = 0
    line = pack(rows, [1, 1]).to(device)
    ids_BT = torch.from_numpy(np.stack(rows)).to(device)
    ids_1T, positions_1T = ids_BT.flatten()[line.source_T][None], line.positions_T[None]
    with torch.no_grad():
        padded = decoder(input_ids=ids_BT, use_cache=False).last_hidden_state.flatten(0, 1)
        try:
            model.set_attn_implementation(PACKED)
            packed, unpacked = (
                decoder(input_ids=ids_1T, position_ids=positions_1T, use_cache=False, **arguments)
                for arguments in ({"packing": packing_argument(line, device, model.dtype)}, {})
            )
        except (NotImplementedError, TypeError, ValueError, KeyError) as error:
            log.info("rows are padded, not packed: %s", error)
            model.set_attn_implementation(SDPA)
            return False
    # A model that ignores `packing` makes the same error with and without it.
    packed_error, unpacked_error = (
        float((output.last_hidden_state[0][line.responses_N] - padded).norm()) for output in (packed, unpacked)
    )
    is_equal = packed_error < unpacked_error / 2  # on SmolLM2, the rounding of bfloat16 alone is a fifth
    if not is_equal:
        model.set_attn_implementation(SDPA)
    return is_equal
