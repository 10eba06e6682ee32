"""The commands of a model card are valid Python, shell and JSON, whatever the names are."""

import ast
import json
import re
import shlex

import pytest

from baker.versions.card_usage import usage


@pytest.mark.parametrize("base", ["Org/Base", '/models/it\'s "mine"', "a $(b) `c`"])
@pytest.mark.parametrize(("rank", "allowed"), [(1, "1"), (5, "8"), (16, "16"), (33, "64")])
def test_the_commands_name_the_base_the_rank_and_the_adapter(base: str, rank: int, allowed: str) -> None:
    text = usage(base, "bake", "bake_checkpoint_21", rank, has_tokenizer=True)
    python, vllm, curl = (code for _, code in re.findall(r"```(python|bash)\n(.*?)```", text, re.DOTALL))
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(python).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    assert values == {"BASE": base, "ADAPTER": "."}
    words = shlex.split(vllm)
    assert words[:3] == ["vllm", "serve", base] and words[words.index("--max-lora-rank") + 1] == allowed
    assert words[-1] == "bake=."
    body = json.loads(shlex.split(curl.replace("\\\n", " "))[-1])
    assert body == {"lora_name": "imported/bake", "lora_path": "bake_checkpoint_21"}


def test_the_tokenizer_comes_from_the_base_if_the_archive_has_none() -> None:
    assert "from_pretrained(BASE)\nmodel" in usage("Org/Base", "bake", "folder", 4, has_tokenizer=False)
    assert "from_pretrained(ADAPTER)\nmodel" in usage("Org/Base", "bake", "folder", 4, has_tokenizer=True)
