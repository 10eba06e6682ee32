"""Adapters that are loaded, replaced, used at other strengths and unloaded in a running service."""

import threading
from pathlib import Path

import httpx
from openai import OpenAI

from tests.gateway.engines import make_adapter, make_forcing_adapter, make_tokenizer
from tests.service import RunningGateway

VERSIONS, STREAMS = 8, 4


def test_a_name_is_reloaded_in_place_while_it_streams(gateway: RunningGateway, tiny_model: Path) -> None:
    """Each version repeats one letter. Every answer comes from a single version, never from one older than the version
    that the name pointed to when the request was sent."""
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
            allowed = ["abcdefgh"[step] * 24 for step in range(before, min(after + 1, VERSIONS - 1) + 1)]
            assert text in allowed, f"{text!r}, asked between {before} and {after}"
        names = [model["id"] for model in operator.get("/v1/models").json()["data"]]
        assert sum(name.startswith("admin/imports/letter/") for name in names) == VERSIONS
        gone = operator.post("/v1/unload_lora_adapter", json={"lora_name": "imports/letter"})
        assert gone.status_code == 200
        refused = operator.post("/v1/completions", json={"model": "imports/letter", "prompt": "x"})
        assert refused.status_code == 404


def test_a_bake_answers_at_half_its_strength_on_every_route(gateway: RunningGateway, tiny_model: Path) -> None:
    make_adapter(gateway.folder / ".bread" / "import" / "strong", seed=1)
    half = "imports/strong@0.50"
    bodies = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2},
        "/v1/completions": {"prompt": "Hello", "max_tokens": 2},
        "/v1/responses": {"input": "Hello", "max_output_tokens": 2},
        "/v1/messages": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2},
        "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "Hello"}]},
        "/tokenize": {"prompt": "Hello"},
        "/v1/tokenize": {"prompt": "Hello"},
    }
    with httpx.Client(base_url=gateway.url, headers={"x-api-key": gateway.key}, timeout=120) as client:
        loaded = client.post("/v1/load_lora_adapter", json={"lora_name": "imports/strong", "lora_path": "strong"})
        assert loaded.status_code == 200, loaded.text
        step = client.get("/v1/models/imports/strong").json()["served"].rpartition("/")[2]
        served = f"admin/imports/strong/{step}@0.5"
        assert client.get(f"/v1/models/{half}").json()["served"] == served
        assert client.get("/v1/models/imports/strong%401.0").json()["served"] == served.removesuffix("@0.5")
        for path, body in bodies.items():
            answer = client.post(path, json={**body, "model": half}, headers={"x-request-id": f"half{path}"})
            assert answer.status_code == 200, answer.text
            assert answer.json().get("model", served) == served
            wrong = client.post(path, json={**body, "model": "imports/strong@5"})
            assert wrong.status_code == 404 and "0 to 2" in wrong.json()["error"]["message"]
        lines: list[str] = []
        while len(lines) < len(bodies):  # a line is written after its answer is sent
            log = (gateway.folder / "gateway.log").read_text()
            lines = [line for line in log.splitlines() if " id=half/" in line]
        assert all(f" model={half} served={served} " in line for line in lines)
        for path, where in (("/v1/load_lora_adapter", {"lora_path": "strong"}), ("/v1/unload_lora_adapter", {})):
            refused = client.post(path, json={"lora_name": half, **where})
            assert refused.status_code == 400 and "write repo/bake" in refused.json()["error"]["message"]
        assert client.get("/v1/models/download", params={"name": half}).status_code == 400
        assert client.post("/v1/unload_lora_adapter", json={"lora_name": "imports/strong"}).status_code == 200
        gone = client.post("/v1/completions", json={"model": half, "prompt": "x"})
        assert gone.status_code == 404
