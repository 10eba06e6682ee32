"""A plain bake with Hugging Face's libraries, which `baking.py` compares ours with.

It answers with `generate` and left padding. Then it runs, for each padded batch, one forward pass of the prompted
teacher (adapter switched off) and one of the student, with logits at every position, and takes the KL over the whole
vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, get_linear_schedule_with_warmup

Message = dict[str, Any]


class Answer(NamedTuple):
    teacher_ids: list[int]
    student_ids: list[int]
    response_ids: list[int]


class NaivePeer:
    def __init__(self, model: Path, *, rank: int, learning_rate: float, batch_size: int, max_tokens: int) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
        torch.manual_seed(0)
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", task_type="CAUSAL_LM")
        self.model = get_peft_model(base, config)
        self._learning_rate, self._batch_size, self._max_tokens = learning_rate, batch_size, max_tokens

    def rollout(self, questions: Sequence[str], teacher: list[Message], student: list[Message]) -> list[Answer]:
        """One answer to each question, sampled at temperature 1."""
        answers = []
        self.model.eval()
        for at in range(0, len(questions), self._batch_size):
            batch = questions[at : at + self._batch_size]
            contexts = [self._context(teacher, question) for question in batch]
            padded = self.tokenizer.pad({"input_ids": contexts}, return_tensors="pt")
            with torch.no_grad(), self.model.disable_adapter():
                output = self.model.generate(
                    **padded, max_new_tokens=self._max_tokens, do_sample=True, temperature=1.0, top_k=0, top_p=1.0
                )
            width = padded["input_ids"].shape[1]
            for question, context, row in zip(batch, contexts, output[:, width:].tolist(), strict=True):
                answers.append(Answer(context, self._context(student, question), self._until_end(row)))
        return answers

    def train(self, answers: Sequence[Answer], on_step: Callable[[int, int], None]) -> None:
        """Train for one pass over `answers`.

        Args:
            on_step: called after each step with its tokens (student contexts and responses) and its loss positions.
        """
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=self._learning_rate, weight_decay=0.0)
        batches = list(self._batches(answers))
        scheduler = get_linear_schedule_with_warmup(optimizer, 3, len(batches))
        self.model.train()
        for batch in batches:
            with torch.no_grad(), self.model.disable_adapter():
                teacher_NV = self._response_logits([answer.teacher_ids for answer in batch], batch)
            student_NV = self._response_logits([answer.student_ids for answer in batch], batch)
            loss = nn.functional.kl_div(
                student_NV.float().log_softmax(-1),
                teacher_NV.float().log_softmax(-1),
                reduction="batchmean",
                log_target=True,
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            scheduler.step()
            on_step(sum(len(answer.student_ids) + len(answer.response_ids) for answer in batch), len(student_NV))

    def _batches(self, answers: Sequence[Answer]) -> Iterator[list[Answer]]:
        order = torch.randperm(len(answers), generator=torch.Generator().manual_seed(0)).tolist()
        for at in range(0, len(order), self._batch_size):
            yield [answers[index] for index in order[at : at + self._batch_size]]

    def _response_logits(self, contexts: list[list[int]], answers: Sequence[Answer]) -> Tensor:
        """Logits of the positions that predict response tokens, (N, V)."""
        rows = [[*context, *answer.response_ids] for context, answer in zip(contexts, answers, strict=True)]
        padded = self.tokenizer.pad({"input_ids": rows}, return_tensors="pt")
        width = padded["input_ids"].shape[1]
        logits_BTV = self.model(**padded).logits
        mask_BT = torch.zeros(len(rows), width, dtype=torch.bool)
        for index, answer in enumerate(answers):
            mask_BT[index, width - len(answer.response_ids) - 1 : -1] = True
        response_NV: Tensor = logits_BTV[mask_BT]
        return response_NV

    def _context(self, messages: list[Message], question: str) -> list[int]:
        ids = self.tokenizer.apply_chat_template(
            [*messages, {"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
        )
        return list(ids)

    def _until_end(self, row: list[int]) -> list[int]:
        """The row up to and including the end-of-turn token, if it has one."""
        end = self.tokenizer.eos_token_id
        return row[: row.index(end) + 1] if end in row else row
