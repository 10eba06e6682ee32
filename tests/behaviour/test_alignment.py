"""From a prompt to the tensors that are trained on, with chat templates that begin assistant turns differently.

The expected texts are written out by hand: where a response begins is what they are about.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from baker.training.data.batches import make_batch
from baker.trajectories.rollout import RolloutItem, RolloutSettings, rollout
from baker.types import (
    Checkpoint,
    Distribution,
    Message,
    ParsedAnswer,
    Prompt,
    Sample,
    SampleRequest,
    Stimulus,
    StopReason,
)

pytestmark = pytest.mark.anyio

SPECIAL = ["<|im_start|>", "<|im_end|>", "<|bos|>", "<|head|>", "<|/head|>", "<|eot|>", "<think>", "</think>"]
SMOLLM2 = """\
{% for message in messages %}{% if loop.first and messages[0].role != 'system' %}<|im_start|>system
You help.<|im_end|>
{% endif %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
LLAMA_3 = """\
<|bos|>{% for message in messages %}<|head|>{{ message.role }}<|/head|>

{{ message.content | trim }}<|eot|>{% endfor %}{% if add_generation_prompt %}<|head|>assistant<|/head|>

{% endif %}"""
QWEN_3 = """\
{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content.split('</think>')[-1].lstrip('\\n') if message.role == 'assistant' else message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{% endif %}"""
CASES = {
    "smollm2": (
        SMOLLM2,
        "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nHow?<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>system\nBe Yoda.<|im_end|>\n<|im_start|>user\nHow?<|im_end|>\n<|im_start|>assistant\n",
        "So.<|im_end|>",
    ),
    "llama 3": (
        LLAMA_3,
        "<|bos|><|head|>user<|/head|>\n\nHow?<|eot|><|head|>assistant<|/head|>\n\n",
        "<|bos|><|head|>system<|/head|>\n\nBe Yoda.<|eot|><|head|>user<|/head|>\n\nHow?<|eot|>"
        "<|head|>assistant<|/head|>\n\n",
        "So.<|eot|>",
    ),
    "qwen 3, thinking": (
        QWEN_3,
        "<|im_start|>user\nHow?<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>system\nBe Yoda.<|im_end|>\n<|im_start|>user\nHow?<|im_end|>\n<|im_start|>assistant\n",
        "<think>\nHm.\n</think>\n\nSo.<|im_end|>",
    ),
}


def make_tokenizer(template: str) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per character, and special tokens."""
    characters = [chr(code) for code in range(0x21, 0x7F)] + ["Ġ", "Ċ"]  # byte-level names of space and newline
    tokenizer = Tokenizer(models.BPE(vocab={name: number for number, name in enumerate(characters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template)


class TemplateEngine:
    """Renders prompts as serving does, and always answers `response`."""

    renders_tools = False

    def __init__(self, template: str, response: str) -> None:
        self.tokenizer = make_tokenizer(template)
        self.response = response

    async def tokenise(self, messages: Sequence[Message], tools: list[dict[str, Any]] | None = None) -> list[int]:
        return list(self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=False))

    async def sample(self, request: SampleRequest) -> Sample:
        ids = self.tokenizer.encode(self.response)
        top = np.stack([np.array([token, (token + 1) % 50], dtype=np.int32) for token in ids])
        return Sample(ids, self.response, StopReason.STOP, top, np.log(np.full(top.shape, 0.4, np.float32)))

    async def distribution(
        self, context_ids: Sequence[int], response_ids: Sequence[int], top_logprobs: int, adapter: Checkpoint | None
    ) -> Distribution:
        raise NotImplementedError

    def read_answer(self, sample: Sample, tools: list[dict[str, Any]] | None) -> ParsedAnswer:
        return ParsedAnswer(sample.text, [])


@pytest.mark.parametrize("name", CASES)
async def test_training_sees_what_serving_renders_and_predicts_the_answer_from_its_header(name: str) -> None:
    template, bare, prompted, response = CASES[name]
    engine = TemplateEngine(template, response)
    settings = RolloutSettings(
        teacher=Prompt(messages=[{"role": "system", "content": "Be Yoda."}]),
        student=Prompt(messages=[{"role": "system", "content": ""}]),
        model="m",
        checkpoint=None,
        trajectories_per_stimulus=2,
        temperature=1.0,
        max_tokens=64,
        max_concurrency=1,
        top_logprobs=2,
    )
    kept: list[RolloutItem] = []

    async def keep(rolled: RolloutItem) -> None:
        kept.append(rolled)

    await rollout([Stimulus(id=0, text="How?", generator="hardcoded")], settings, engine, keep)
    row = kept[0].trajectory
    decode = engine.tokenizer.decode
    assert decode(row.teacher_ids) == prompted
    assert decode(row.student_ids) == bare
    assert decode(row.response_ids) == response

    other = msgspec.structs.replace(kept[1].trajectory, student_ids=np.append(row.student_ids[:-1], np.arange(9)))
    batch = make_batch([row, other])  # with padding, and with a shared beginning
    count = len(row.response_ids)
    sequence = [*row.student_ids.tolist(), *row.response_ids.tolist()]
    for ids, places in (
        (batch.input_ids_BT.flatten(), batch.positions_N),
        (batch.input_ids_BT.flatten()[batch.packing.source_T], batch.packing.responses_N),
    ):
        assert ids[places[:count]].tolist() == sequence[len(row.student_ids) - 1 : -1]
        assert decode(ids[: int(places[0]) + 1]) == bare, "the first token of the answer is predicted from its header"
    assert batch.response_ids_N[:count].tolist() == row.response_ids.tolist()
    assert batch.top_ids_NK[:count, 0].tolist() == row.response_ids.tolist()
    assert decode(batch.response_ids_N[count - 1 : count]) == response[response.rindex("<") :], "it learns to stop"
