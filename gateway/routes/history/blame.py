"""Which version made an answer what it is."""

from litestar import Request, Router, post
from litestar.datastructures import State
from litestar.params import FromPath, JSONBody

from baker.comparison.blame import Question
from gateway.http.asgi import unless_client_leaves
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
) -> comparison.BlameResult:
    """For each token of an answer, the version that made it likely: all ancestors read the same answer."""
    conversation = comparison_views.conversation_of(data.question, data.messages)
    work = services.comparisons.blames.blame(caller.user, repo, Question(data.model, conversation, data.answer))
    return comparison_views.blame(await unless_client_leaves(request.receive, work))


ROUTER = Router("/v1/repo/{repo:str}", route_handlers=[blame], tags=["history"])
