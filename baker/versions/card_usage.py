"""The part of a model card that says how to load the adapter: with PEFT, with vLLM and with this service."""

import json
import shlex

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM's --max-lora-rank accepts."""

PEFT = """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

BASE = {base}  # name on Hugging Face's hub, or the folder of the model
ADAPTER = "."  # the folder of this file

tokenizer = AutoTokenizer.from_pretrained({tokenizer})
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE, dtype="auto"), ADAPTER)
messages = [{{"role": "user", "content": "Who are you?"}}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
output = model.generate(**inputs, max_new_tokens=100)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```"""

VLLM = """```bash
vllm serve {base} --enable-lora --max-lora-rank {rank} --lora-modules {name}=.
```"""

SERVICE = """```bash
curl http://127.0.0.1:8080/v1/load_lora_adapter -H "Authorization: Bearer $BREAD_API_KEY" \\
  -H "Content-Type: application/json" -d '{body}'
```"""


def usage(base_model: str, bake: str, folder: str, rank: int, has_tokenizer: bool) -> str:
    """Markdown.

    Args:
        bake: name of the bake, which is also the adapter's name in the examples.
        folder: name of the archive's folder.
        has_tokenizer: whether the archive holds the tokenizer of the base model.
    """
    quoted = json.dumps(base_model)
    allowed = next((each for each in VLLM_RANKS if each >= rank), rank)
    body = json.dumps({"lora_name": f"imported/{bake}", "lora_path": folder})
    return "\n\n".join(
        [
            "With PEFT, in this folder (`pip install torch transformers peft`):",
            PEFT.format(base=quoted, tokenizer="ADAPTER" if has_tokenizer else "BASE"),
            f"With vLLM, in this folder; requests name the model `{bake}`:",
            VLLM.format(base=shlex.quote(" ".join(base_model.split())), rank=allowed, name=bake),
            "With Bread Gateway on the same base model: put this folder into the service's `.bread/import`, then, with "
            "the master key:",
            SERVICE.format(body=body),
        ]
    )
