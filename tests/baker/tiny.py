"""A random Llama with a few thousand parameters, and trajectories for it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from baker.types import Trajectory

VOCABULARY = 61
TOP = 8


def make_model(seed: int = 0, **settings: Any) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.2,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": True,
    }
    return LlamaForCausalLM(LlamaConfig(**shape | settings)).eval()


def save_model(folder: Path, seed: int = 0) -> Path:
    make_model(seed).to(torch.bfloat16).save_pretrained(folder)
    return folder


def make_trajectories(count: int, model: LlamaForCausalLM | None = None, seed: int = 0) -> list[Trajectory]:
    """Random questions and responses with the distributions of `model` as teacher; its prompt is four tokens long."""
    model = make_model() if model is None else model
    generator = np.random.default_rng(seed)
    prompt = np.array([7, 11, 13, 17], dtype=np.int32)
    rows = []
    for index in range(count):
        question = generator.integers(3, VOCABULARY, size=int(generator.integers(3, 8)), dtype=np.int32)
        response = generator.integers(3, VOCABULARY, size=int(generator.integers(2, 12)), dtype=np.int32)
        rows.append(with_teacher(model, np.concatenate([prompt, question]), question, response, f"question {index}"))
    return rows


def with_teacher(
    model: LlamaForCausalLM, teacher_ids: np.ndarray, student_ids: np.ndarray, response_ids: np.ndarray, stimulus: str
) -> Trajectory:
    """A trajectory with `model`'s TOP likeliest tokens at each position of the response."""
    ids = torch.from_numpy(np.concatenate([teacher_ids, response_ids]).astype(np.int64))[None]
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, len(teacher_ids) - 1 : -1].float()
    top = logits.log_softmax(-1).topk(TOP)
    return Trajectory(
        teacher_ids=teacher_ids,
        student_ids=student_ids,
        response_ids=response_ids,
        top_ids_TK=top.indices.numpy().astype(np.int32),
        top_logprobs_TK=top.values.numpy(),
        stimulus=stimulus,
    )
