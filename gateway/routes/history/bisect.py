"""Since which version an answer is as it is."""

from litestar import Request, Router, post
from litestar.datastructures import State
from litestar.params import FromPath, JSONBody

from baker.comparison.bisection import Question
from gateway.http.asgi import unless_client_leaves
from gateway.protocol import comparison
from gateway.routes.dependencies import Caller, Services
from gateway.routes.history import comparison_views


@post("/bisect", status_code=200)
async def bisect(
    request: Request[None, None, State],
    services: Services,
    caller: Caller,
    repo: FromPath[str],
    data: JSONBody[comparison.BisectRequest],
) -> comparison.BisectResult:
    """Ask every version between a good one and a bad one, and tell which of them changed the answer."""
    question = Question(
        good=data.good,
        bad=data.bad,
        conversation=comparison_views.conversation_of(data.question, data.messages),
        expect=data.expect,
        pattern=data.pattern,
        samples=data.samples,
    )
    work = services.comparisons.bisections.bisect(caller.user, repo, question)
    return comparison_views.bisection(await unless_client_leaves(request.receive, work))


ROUTER = Router("/v1/repo/{repo:str}", route_handlers=[bisect], tags=["history"])
