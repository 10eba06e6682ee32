"""Models and adapters for the benchmarks."""

import argparse
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gateway.serving import embedded_model

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="a folder; absent: the embedded SmolLM2-135M-Instruct")
    parser.add_argument("--home", type=Path, default=Path(".bread"), help="folder of the embedded model (.bread)")


def chosen(options: argparse.Namespace) -> Path:
    return options.model or embedded(options.home)


def embedded(home: Path) -> Path:
    """SmolLM2-135M-Instruct, converted in `home` if it isn't there yet."""
    return embedded_model.prepare(home.resolve())  # absolute, since each server runs in its own folder


def tiny(folder: Path) -> Path:
    """A model of two layers of 64 with random weights and one token per printable character: almost no engine work."""
    characters = [chr(code) for code in range(0x21, 0x7F)] + ["Ġ", "Ċ"]  # byte-level names of space and newline
    tokenizer = Tokenizer(models.BPE(vocab={name: number for number, name in enumerate(characters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=CHAT_TEMPLATE)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=None,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def adapter(folder: Path, model: Path, seed: int, *, rank: int = 16, scale: float = 0.01) -> Path:
    """A LoRA adapter with random weights for every linear layer of `model`, in PEFT's format."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    (weights,) = model.glob("*.safetensors")
    with safe_open(weights, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - the file is not a mapping
            if (module := name.removesuffix(".weight")).endswith(LINEAR):
                out, width = file.get_slice(name).get_shape()
                prefix = f"base_model.model.{module}"
                tensors[f"{prefix}.lora_A.weight"] = torch.randn(rank, width, generator=generator) * width**-0.5
                tensors[f"{prefix}.lora_B.weight"] = torch.randn(out, rank, generator=generator) * scale
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(model),
        "r": rank,
        "lora_alpha": rank,
        "target_modules": LINEAR,
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
