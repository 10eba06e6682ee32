"""Since which version an answer is as it is."""

from litestar import Request, Response, Router, post
from litestar.datastructures import State
from litestar.params import FromPath, JSONBody

from baker.comparison.bisection import Question
from baker.comparison.scorer import OnProgress
from gateway.http.asgi import unless_client_leaves
from gateway.http.progress_stream import progress_stream
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
) -> Response[comparison.BisectResult]:
    """Ask every version between a good one and a bad one, and tell which of them changed the answer.

    With `stream`, the answer is server-sent events. Closing the connection ends the work."""
    question = Question(
        good=data.good,
        bad=data.bad,
        conversation=comparison_views.conversation_of(data.question, data.messages),
        expect=data.expect,
        pattern=data.pattern,
        samples=data.samples,
    )

    async def work(on_progress: OnProgress) -> comparison.BisectResult:
        result = await services.comparisons.bisections.bisect(caller.user, repo, question, on_progress)
        return comparison_views.bisection(result)

    if data.stream:
        return await progress_stream(request, work)
    return Response(await unless_client_leaves(request.receive, work(lambda done, total: None)))


ROUTER = Router("/v1/repo/{repo:str}", route_handlers=[bisect], tags=["history"])
