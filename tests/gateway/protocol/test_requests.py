import msgspec
import pytest

from gateway.protocol import requests


def test_unknown_fields_are_refused_except_for_new_users() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `extra`"):
        msgspec.convert({"repo_name": "r", "extra": 1}, requests.RepoPut)
    user = {"user_id": "a", "user_alias": "A", "user_email": "a@b.c", "password": "p", "extra": 1}
    assert msgspec.convert(user, requests.UserCreate).user_id == "a"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"checkpoint": -1}, requests.Promote),
        ({"lora_name": "", "lora_path": "x"}, requests.LoraLoad),
        ({"lora_name": ""}, requests.LoraUnload),
        ({"user_id": "a", "user_alias": "A", "user_email": "a@b.c", "password": ""}, requests.UserCreate),
        ({"template": "default"}, requests.TargetCreate),
    ],
)
def test_empty_and_impossible_values_are_refused(body: dict[str, object], kind: type[msgspec.Struct]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(body, kind)
