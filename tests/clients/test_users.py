"""Two users of one service, each with their own key and the published clients."""

from typing import Any

import aibread
import httpx
import openai
import pytest

from tests.gateway.engines import MODEL_NAME
from tests.service import RunningGateway
from tests.shape import Shape

QUESTION = [{"role": "user", "content": "Hello"}]
HARDCODED = {"type": "hardcoded", "questions": [f"What is {number} and {number}?" for number in range(12)]}


@pytest.fixture(scope="module")
def keys(gateway: RunningGateway) -> dict[str, str]:
    """User -> key."""
    keys = {}
    for user in ("alice", "bob"):
        body = {"user_id": user, "user_alias": user, "user_email": f"{user}@example.org", "password": "secret"}
        headers = {"Authorization": f"Bearer {gateway.key}"}
        answer = httpx.post(f"{gateway.url}/v1/admin/users", json=body, headers=headers).raise_for_status()
        keys[user] = answer.json()["api_key"]
    return keys


@pytest.fixture(scope="module")
def shape(gateway: RunningGateway, keys: dict[str, str]) -> Shape:
    """Alice's finished bake."""
    shape = Shape(gateway, "secret", keys["alice"])
    shape.prompt("loud", [{"role": "system", "content": "Always shout"}])
    shape.target("target", "loud", "", generators=[HARDCODED], max_tokens=8, extra_kwargs={"ignore_eos": True})
    shape.bake(datasets=[{"target": "target"}], epochs=2)
    return shape


def test_a_users_bake_is_theirs_in_every_client(gateway: RunningGateway, keys: dict[str, str], shape: Shape) -> None:
    listed = [model.id for model in shape.openai.models.list().data]
    assert listed[:2] == [MODEL_NAME, "secret/bake"]
    assert listed[2].startswith("alice/secret/bake/")
    for name in listed:
        shape.answer(name, QUESTION)

    bob, chat = gateway.bread(keys["bob"]), gateway.openai(keys["bob"])
    assert bob.repo.list().repos == []
    assert [model.id for model in chat.models.list().data] == [MODEL_NAME]
    for name in listed[1:]:
        with pytest.raises(openai.NotFoundError) as refused:
            chat.chat.completions.create(model=name, messages=QUESTION)  # type: ignore[arg-type]
        assert "alice" not in str(refused.value.body).replace(name, "")
    with pytest.raises(aibread.NotFoundError):
        bob.repo.get(repo_name="secret")
    with pytest.raises(aibread.NotFoundError):
        bob.bakes.download(bake_name="bake", repo_name="secret")
    with pytest.raises(aibread.PermissionDeniedError):
        bob.repo.get(repo_name="secret", user_id="alice")


def test_the_master_key_polls_a_users_job_to_its_end(gateway: RunningGateway, shape: Shape) -> None:
    master = gateway.bread()
    assert master.repo.list(user_id="alice").repos == ["secret"]
    # The client's polling loop does not repeat the user.
    assert master.targets.stim.run(target_name="target", repo_name="secret", user_id="alice").status == "complete"
    assert master.targets.stim.get(target_name="target", repo_name="secret").lines == 12
    bake: Any = master.bakes.run(bake_name="bake", repo_name="secret", user_id="alice")
    assert bake.api_model_name[0].startswith("alice/secret/bake/")
    answer = gateway.openai().chat.completions.create(model=bake.api_model_name[0], messages=QUESTION)  # type: ignore[arg-type]
    assert answer.choices[0].finish_reason


def test_a_revoked_key_is_refused_at_once(gateway: RunningGateway, keys: dict[str, str], shape: Shape) -> None:
    with httpx.Client(base_url=gateway.url, headers={"Authorization": f"Bearer {gateway.key}"}) as master:
        new = master.post("/v1/admin/users/alice/keys").raise_for_status().json()
        old = next(user for user in master.get("/v1/admin/users").json()["users"] if user["user_id"] == "alice")
        first = next(key["key_id"] for key in old["keys"] if key["key_id"] != new["key_id"])
        master.delete(f"/v1/admin/users/alice/keys/{first}").raise_for_status()
    with pytest.raises(openai.AuthenticationError):
        gateway.openai(keys["alice"]).models.list()
    assert gateway.openai(new["api_key"]).models.list().data[1].id == "secret/bake"
