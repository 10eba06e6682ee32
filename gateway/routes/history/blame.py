"""Which version made an answer what it is."""

from litestar import Request, Response, Router, post
from litestar.datastructures import State
from litestar.params import FromPath, JSONBody

from baker.comparison.blame import Question
from baker.comparison.scorer import OnProgress
from gateway.http.asgi import unless_client_leaves
from gateway.http.progress_stream import progress_stream
from gateway.protocol import comparison
from gateway.routes.dependencies import Caller, Services
from gateway.routes.history import comparison_views


@post("/blame", status_code=200)
async def blame(
    request: Request[None, None, State],
    services: Services,
    caller: Caller,
    repo: FromPath[str],
    data: JSONBody[comparison.BlameRequest],
) -> Response[comparison.BlameResult]:
    """For each token of an answer, the version that made it likely: all ancestors read the same answer.

    With `stream`, the answer is server-sent events. Closing the connection ends the work."""
    conversation = comparison_views.conversation_of(data.question, data.messages)
    question = Question(data.model, conversation, data.answer)

    async def work(on_progress: OnProgress) -> comparison.BlameResult:
        result = await services.comparisons.blames.blame(caller.user, repo, question, on_progress)
        return comparison_views.blame(result)

    if data.stream:
        return await progress_stream(request, work)
    return Response(await unless_client_leaves(request.receive, work(lambda done, total: None)))


ROUTER = Router("/v1/repo/{repo:str}", route_handlers=[blame], tags=["history"])
