"""Adapters do not change logits. Installed in vLLM's worker, on any device.

vLLM 0.32 adds an adapter's part to the logits by the rows of the tokens that are sampled in a step. For the
log-probabilities of a prompt (our scores, and a client's `prompt_logprobs`) it computes logits of other rows, but uses
the same mapping: on a CPU this killed the engine when more requests with adapters shared the batch than the prompt has
tokens. We refuse adapters on lm_head, so there is nothing to add.

Remove this when vLLM maps the rows of prompt log-probabilities correctly (`lora/layers/logits_processor.py`).
"""

from typing import Any

from vllm.lora.layers.logits_processor import LogitsProcessorWithLoRA


class _NothingToAdd:
    def add_lora_logits(self, logits: Any, *args: Any, **kwargs: Any) -> Any:
        return logits


def leave_logits_alone() -> None:
    """Call once, before vLLM builds the model."""

    def set_mapping(self: Any, punica_wrapper: Any) -> None:
        self.punica_wrapper = _NothingToAdd()

    LogitsProcessorWithLoRA.set_mapping = set_mapping
