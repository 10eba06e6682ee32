"""What differs between two versions."""

from litestar import Request, Response, Router, post
from litestar.datastructures import State
from litestar.params import FromPath, JSONBody

from baker.comparison.diff import DiffRequest, Part
from baker.comparison.scorer import OnProgress
from gateway.http.asgi import unless_client_leaves
from gateway.http.progress_stream import progress_stream
from gateway.protocol import comparison
from gateway.routes.dependencies import Caller, Services
from gateway.routes.history import comparison_views


@post("/diff", status_code=200)
async def diff(
    request: Request[None, None, State],
    services: Services,
    caller: Caller,
    repo: FromPath[str],
    data: JSONBody[comparison.DiffRequest],
) -> Response[comparison.DiffResult]:
    """Compare two versions: what they say, their weights, and what they were made of.

    Asks the engine one thing at a time. With `stream`, the answer is server-sent events. Closing the connection ends
    the work; parts that were complete by then are kept, so the next call continues there.
    """
    asked = DiffRequest(
        a=data.a,
        b=data.b,
        parts=frozenset(map(Part, data.include)),
        probe=data.probe,
        conversations=comparison_views.conversations_of(data.questions, data.conversations),
        limit=data.limit,
        max_rows=data.max_rows,
    )

    async def work(on_progress: OnProgress) -> comparison.DiffResult:
        result = await services.comparisons.diffs.diff(caller.user, repo, asked, on_progress)
        return comparison_views.diff(result)

    if data.stream:
        return await progress_stream(request, work)
    return Response(await unless_client_leaves(request.receive, work(lambda done, total: None)))


ROUTER = Router("/v1/repo/{repo:str}", route_handlers=[diff], tags=["history"])
