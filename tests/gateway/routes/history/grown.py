"""A repo with two bakes, the second on top of the first, as their trainings leave them."""

from gateway.services import Services
from tests.gateway.application import Client, finish_bake, make_bake

REPO = "/v1/repo/repo"


async def grow(client: Client, services: Services, user: str = "admin") -> tuple[str, str]:
    """Returns: the ids of the commits of bakes `first` and `second`."""
    for name, parent in (("first", None), ("second", f"{user}/repo/first/3")):
        await make_bake(client, user, name)
        await finish_bake(services, user, bake=name, parent=parent)
    answer = await client.get(f"{REPO}/commits", headers={"X-User-Id": user})
    second, first = answer.json()["commits"]
    return first["id"], second["id"]
