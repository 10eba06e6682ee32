"""/v1/load_lora_adapter and /v1/unload_lora_adapter with a fake engine. On a real one: tests/clients/test_lora.py."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from gateway.services import Services
from tests.gateway.application import Client, add_user, client_of, finish_bake, holding, make_bake, services_in

pytestmark = pytest.mark.anyio

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"


def peft_adapter(folder: Path, value: float = 1.0, **config: Any) -> Path:
    folder.mkdir(parents=True)
    known = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_bytes(msgspec.json.encode(known | config))
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    weights = {f"{module}.lora_A.weight": (2, 8), f"{module}.lora_B.weight": (8, 2)}
    arrays = {name: np.full(shape, value, np.float32) for name, shape in weights.items()}
    save_file(arrays, folder / "adapter_model.safetensors")
    return folder


@pytest.fixture
def source(services: Services) -> Path:
    return peft_adapter(services.home / "import" / "pirate")


async def load(client: Client, name: str, path: str | Path, status: int = 200, **fields: Any) -> str:
    answer = await client.post(LOAD, json={"lora_name": name, "lora_path": str(path), **fields})
    assert answer.status_code == status, answer.text
    return answer.text if status == 200 else str(answer.json()["error"]["message"])


async def names(client: Client) -> list[str]:
    return [model["id"] for model in (await client.get("/v1/models")).json()["data"]]


async def test_an_import_is_listed_and_is_a_bake(client: Client, source: Path) -> None:
    assert await load(client, "crew/pirate", "pirate") == "Success: LoRA adapter 'crew/pirate' added successfully."
    assert await names(client) == ["fake/base", "crew/pirate", "admin/crew/pirate/1"]
    status = (await client.get("/v1/repo/crew/bakes/pirate")).json()
    assert (status["status"], status["model_name"]) == ("complete", ["admin/crew/pirate/1"])
    assert "no parity certificate" in status["warnings"][0]
    link = (await client.get("/v1/repo/crew/bakes/pirate/download")).json()["url"]
    assert (await client.get(link)).status_code == 200
    assert (await client.get("/v1/repo/crew/tree")).status_code == 200
    assert (await client.get("/v1/repo/crew/recipe/pirate/recreation-plan")).status_code == 200
    again = (await client.post("/v1/repo/crew/bakes/pirate")).json()
    assert again["status"] == "complete", "an import has nothing to run"


async def test_an_existing_name_moves_only_with_load_inplace(client: Client, services: Services, source: Path) -> None:
    await load(client, "crew/pirate", source)
    assert "already been loaded" in await load(client, "crew/pirate", source, 400)
    await load(client, "admin/crew/pirate", peft_adapter(services.home / "import" / "new", 2.0), load_inplace=True)
    assert await names(client) == ["fake/base", "crew/pirate", "admin/crew/pirate/2", "admin/crew/pirate/1"]
    assert services.registry.resolve("crew/pirate", "admin").name == "admin/crew/pirate/2"


async def test_an_import_survives_a_restart(client: Client, services: Services, source: Path) -> None:
    await load(client, "crew/pirate", source)
    (source / "adapter_config.json").unlink()
    (services.home / "jobs" / ".import-interrupted").mkdir()
    async with client_of(services_in(services.home)) as restarted:
        assert await names(restarted) == ["fake/base", "crew/pirate", "admin/crew/pirate/1"]
    assert [path.name for path in (services.home / "jobs").iterdir()] == ["1"]


async def test_unload_removes_only_the_import(client: Client, services: Services, source: Path) -> None:
    await load(client, "crew/pirate", source)
    answer = await client.post(UNLOAD, json={"lora_name": "crew/pirate"})
    assert (answer.status_code, answer.text) == (200, "Success: LoRA adapter 'crew/pirate' removed successfully.")
    assert await names(client) == ["fake/base"]
    assert list((services.home / "jobs").iterdir()) == []
    assert (await client.post(UNLOAD, json={"lora_name": "crew/pirate"})).status_code == 404
    await make_bake(client, "admin")
    await finish_bake(services, "admin")
    refused = await client.post(UNLOAD, json={"lora_name": "repo/bake"})
    assert refused.status_code == 400 and "baked here" in refused.json()["error"]["message"]
    await load(client, "crew/pirate", source)
    assert "repo/bake" in await names(client) and "crew/pirate" in await names(client)


@pytest.mark.parametrize(
    ("name", "path", "status", "reason"),
    [
        ("pirate", "pirate", 400, "write repo/bake"),
        ("crew/pirate/7", "pirate", 400, "versions get their numbers here"),
        ("fake/base", "pirate", 400, "conflicts with a served base model"),
        ("crew/batch", "pirate", 422, "reserved"),
        ("nobody/crew/pirate", "pirate", 404, "not found"),
        ("crew/pirate", "../pirate", 400, "outside"),
        ("crew/pirate", "nothing", 404, "no folder"),
        ("crew/pirate", "dora", 422, "use_dora"),
        ("crew/pirate", "nan", 422, "not finite"),
        ("crew/pirate", "wide", 422, "rank 64 is above"),
        ("crew/pirate", "head", 422, "lm_head"),
    ],
)
async def test_an_unservable_adapter_is_refused_with_the_reason(
    client: Client, services: Services, source: Path, name: str, path: str, status: int, reason: str
) -> None:
    folder = services.home / "import"
    peft_adapter(folder / "dora", use_dora=True)
    peft_adapter(folder / "nan", float("nan"))
    peft_adapter(folder / "wide", r=64)
    peft_adapter(folder / "head", target_modules=["lm_head"])
    assert reason in await load(client, name, path, status)
    assert await names(client) == ["fake/base"]
    assert not list((services.home / "jobs").glob("*"))


async def test_both_routes_need_the_master_key(client: Client, source: Path) -> None:
    key = await add_user(client, "bob")
    for path in (LOAD, UNLOAD):
        body = {"lora_name": "crew/pirate", "lora_path": "pirate"}
        refused = await client.post(path, json=body, headers=holding(key))
        assert refused.status_code == 403 and refused.json()["error"]["type"] == "PermissionDeniedError"
    await load(client, "bob/crew/pirate", source)
    served = (await client.get("/v1/models", headers=holding(key))).json()["data"]
    assert [model["id"] for model in served] == ["fake/base", "crew/pirate", "bob/crew/pirate/1"]
