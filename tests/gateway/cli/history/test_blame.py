"""`bread blame`."""

import json
from typing import Any

import httpx

from tests.gateway.cli.history.answers import server

A, B = "a" * 64, "b" * 64
RESULT = {
    "answer": "Arr, matey! Hmm",
    "tokens": [
        {"text": "Arr", "commit": A, "logprob": -0.1, "gain": 4.0},
        {"text": ", matey!\x1b[2J", "commit": A, "logprob": -0.1, "gain": 2.0},
        {"text": " be", "commit": "base", "logprob": -0.1, "gain": 0.0},
        {"text": " Hmm", "commit": B, "logprob": -0.1, "gain": 1.5},
        {"text": "<|im_end|>", "commit": "base", "logprob": -0.1, "gain": 0.0},
    ],
    "ancestors": [
        {"id": B, "message": "yoda", "tokens": 1, "gain": 1.5},
        {"id": A, "message": "pirate", "tokens": 2, "gain": 6.0},
        {"id": "base", "message": "the base model", "tokens": 1, "gain": 0.0},
    ],
    "warnings": [],
}


def test_each_run_of_words_stands_beside_its_version(bread_of: Any) -> None:
    seen: list[httpx.Request] = []
    bread = bread_of(server({"POST /blame": RESULT}, seen))
    code, out, _ = bread("blame", "hooli/yoda", "Who are you?")
    assert code == 0
    assert json.loads(seen[-1].content) == {"model": "yoda", "question": "Who are you?", "answer": None}
    assert out.splitlines() == [
        "aaaaaaa  Arr, matey!\\x1b[2J",
        "base     be",
        "bbbbbbb  Hmm",
        "",
        "bbbbbbb  yoda             1 token  +1.5 nats",
        "aaaaaaa  pirate          2 tokens  +6.0 nats",
        "base     the base model   1 token",
    ]
    assert json.loads(bread("blame", "yoda", "Who?", "--json").out) == RESULT
