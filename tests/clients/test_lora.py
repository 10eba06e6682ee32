"""Adapters loaded, replaced and unloaded in a running service. Each of these says one letter for ever."""

import threading
from pathlib import Path

import httpx
from openai import OpenAI

from tests.gateway.engines import make_forcing_adapter, make_tokenizer
from tests.service import RunningGateway

VERSIONS, STREAMS = 8, 4


def test_a_name_is_reloaded_in_place_while_it_streams(gateway: RunningGateway, tiny_model: Path) -> None:
    """Every answer is wholly of one version, and never of an older one than the name meant when it was asked."""
    folder = gateway.folder / ".bread" / "import"
    for letter in "abcdefgh"[:VERSIONS]:
        (token,) = make_tokenizer().encode(letter, add_special_tokens=False)
        make_forcing_adapter(folder / letter, tiny_model, token)
    answers: list[tuple[int, int, str]] = []
    loaded, is_over = 0, threading.Event()
    failures: list[Exception] = []

    def stream() -> None:
        with OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
            while not is_over.is_set():
                before = loaded
                try:
                    chunks = client.chat.completions.create(
                        model="imports/letter",
                        messages=[{"role": "user", "content": "Hello"}],
                        max_tokens=24,
                        temperature=0.0,
                        stream=True,
                    )
                    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
                    answers.append((before, loaded, text))
                except Exception as error:
                    failures.append(error)
                    return

    with httpx.Client(
        base_url=gateway.url, headers={"Authorization": f"Bearer {gateway.key}"}, timeout=120
    ) as operator:
        threads = [threading.Thread(target=stream) for _ in range(STREAMS)]
        try:
            for step, letter in enumerate("abcdefgh"[:VERSIONS]):
                body = {"lora_name": "imports/letter", "lora_path": letter, "load_inplace": step > 0}
                answer = operator.post("/v1/load_lora_adapter", json=body)
                assert answer.status_code == 200, answer.text
                loaded = step
                if step == 0:
                    for thread in threads:
                        thread.start()
                enough = len(answers) + STREAMS
                while len(answers) < enough and not failures:
                    is_over.wait(0.01)
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
        assert failures == []
        for before, after, text in answers:
            meant = ["abcdefgh"[step] * 24 for step in range(before, min(after + 1, VERSIONS - 1) + 1)]
            assert text in meant, f"{text!r}, asked between {before} and {after}"
        names = [model["id"] for model in operator.get("/v1/models").json()["data"]]
        assert sum(name.startswith("admin/imports/letter/") for name in names) == VERSIONS
        gone = operator.post("/v1/unload_lora_adapter", json={"lora_name": "imports/letter"})
        assert gone.status_code == 200
        refused = operator.post("/v1/completions", json={"model": "imports/letter", "prompt": "x"})
        assert refused.status_code == 404
