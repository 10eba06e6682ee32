"""The fingerprint of a base model: adapters of one base model don't fit another, even if their shapes agree."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from baker.adapters.files import Tensor, open_weights

SAMPLE_BYTES = 4096
"""Bytes at the start of each tensor that count. Fine-tuning changes every tensor, and reading all of a model of 16 GB
would take a minute."""

TEXT_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""Files that decide which tokens a conversation becomes."""


def base_fingerprint(folder: Path) -> str:
    """SHA-256 (hex) over a model in Hugging Face's format.

    It covers name, type, shape and first bytes of each tensor, and the files of the tokenizer and its chat template.
    How the tensors are spread over files does not matter. Blocks for about a second. Raises: AdapterError; OSError.
    """
    digest = hashlib.sha256()
    tensors: dict[str, tuple[Tensor, NDArray[np.uint8]]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        known, data = open_weights(path, any_type=True)
        tensors |= {name: (tensor, data) for name, tensor in known.items()}
    for name, (tensor, data) in sorted(tensors.items()):
        begin, end = tensor.data_offsets
        digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
        digest.update(data[begin : min(end, begin + SAMPLE_BYTES)].tobytes())
    for file in TEXT_FILES:
        if (folder / file).is_file():
            content = (folder / file).read_bytes()
            digest.update(f"{file} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()
