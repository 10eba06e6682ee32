"""Probes: named lists of conversations that versions are compared on."""

from litestar import Response, Router, delete, get, put
from litestar.params import FromPath, JSONBody

from baker.comparison import probes
from baker.errors import ConfigError
from gateway.protocol import comparison, responses
from gateway.routes.dependencies import Caller, Services
from gateway.routes.history import comparison_views


@get("/")
async def list_probes(services: Services, caller: Caller, repo: FromPath[str]) -> comparison.ProbeList:
    """The probes of the repo, in order of creation, without their conversations."""
    values = await services.catalog(probes.listing, caller.user, repo)
    return comparison.ProbeList(probes=[comparison_views.probe(value) for value in values])


@get("/{probe:str}")
async def get_probe(
    services: Services, caller: Caller, repo: FromPath[str], probe: FromPath[str]
) -> comparison.WholeProbe:
    """One probe with its conversations."""
    return comparison_views.whole_probe(await services.catalog(probes.get, caller.user, repo, probe))


@put("/{probe:str}")
async def set_probe(
    services: Services,
    caller: Caller,
    repo: FromPath[str],
    probe: FromPath[str],
    data: JSONBody[comparison.ProbePut],
) -> Response[comparison.WholeProbe]:
    """Create a probe (201), or replace its conversations (200)."""
    conversations = comparison_views.conversations_of(data.questions, data.conversations)
    if conversations is None:
        raise ConfigError("give 'questions' or 'conversations'")
    result = await services.catalog(probes.put, caller.user, repo, probe, conversations)
    return Response(comparison_views.whole_probe(result.value), status_code=201 if result.is_new else 200)


@delete("/{probe:str}", status_code=200)
async def delete_probe(
    services: Services, caller: Caller, repo: FromPath[str], probe: FromPath[str]
) -> responses.Deleted:
    """Remove a probe. What was compared on it stays known."""
    await services.catalog(probes.delete, caller.user, repo, probe)
    return responses.Deleted(message=f"Probe {probe!r} deleted")


ROUTER = Router(
    "/v1/repo/{repo:str}/probes",
    route_handlers=[list_probes, get_probe, set_probe, delete_probe],
    tags=["history"],
)
