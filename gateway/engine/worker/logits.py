"""Adapters leave logits alone. Called in vLLM's worker process, on any device.

vLLM adds an adapter's part to the logits by the rows of the tokens that are sampled in a step. For the
log-probabilities of a prompt (our scores, and a client's `prompt_logprobs`) it computes logits of other rows, and still
uses those: on a CPU the engine died of it when more requests with adapters shared the batch than the prompt has tokens.
Adapters on lm_head are refused, so there is nothing to add.
"""

from typing import Any

from vllm.lora.layers.logits_processor import LogitsProcessorWithLoRA


class _NothingToAdd:
    def add_lora_logits(self, logits: Any, *args: Any, **kwargs: Any) -> Any:
        return logits


def leave_logits_alone() -> None:
    """Once, before vLLM builds the model."""

    def set_mapping(self: Any, punica_wrapper: Any) -> None:
        self.punica_wrapper = _NothingToAdd()

    LogitsProcessorWithLoRA.set_mapping = set_mapping
