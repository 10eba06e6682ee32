"""`GET /`: what this service is, whether it is ready and where to go; a page for browsers, JSON for other clients."""

import shlex
from html import escape

from litestar import HttpMethod, MediaType, Request, Response, route
from litestar.datastructures import State
from msgspec import UNSET, to_builtins

import gateway
from gateway.http import pages
from gateway.protocol import responses
from gateway.routes.dependencies import Services
from gateway.routes.guards import PUBLIC, caller_if_known

TITLE = "Bread Gateway"
WHAT = (
    "Serves a language model behind OpenAI's and Anthropic's APIs, bakes prompts into its weights as LoRA adapters, "
    "and serves every version of them."
)
REFRESH_SECONDS = 5
"""Seconds after which a browser asks again while the engine is not ready."""
HEADERS = {"cache-control": "no-store"}

BODY = """<h1>{title}</h1>
<p class="soft">{what}</p>
<p class="state{is_ready}">{state}</p>
<h2>Talk to a model</h2>
<p>In the folder of this service:</p>
<pre><code>python3 chat_with_model.py</code></pre>
<p>Or with any HTTP client. The key is in the service's <code>.env</code> and in <code>.bread/master.key</code>; a
user of the service has one of their own.</p>
<pre><code>export BREAD_API_KEY=...
curl {url}/v1/models -H "Authorization: Bearer $BREAD_API_KEY"
curl {url}/v1/chat/completions -H "Authorization: Bearer $BREAD_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "NAME", "messages": [{{"role": "user", "content": "Hello"}}]}}'</code></pre>
<p>The first request lists the names that <code>NAME</code> can be. OpenAI's clients take the base URL
<code>{base}/v1</code>, Anthropic's <code>{base}</code>.</p>
<h2>Bake a prompt</h2>
<p>The example makes a pirate of the model in some minutes, and asks both of them the same questions:</p>
<pre><code>python3 examples/first_bake.py</code></pre>
<h2>Read more</h2>
<ul>
<li><a href="/schema">Every operation of the API</a>, and the same <a href="/schema/openapi.json">for programs</a></li>
<li><code>README.md</code> in the folder of this service: users, settings, what to do when something is wrong</li>
<li><code>docs/</code> beside it: baking, the API, the settings of a bake, clients, operations</li>
<li><a href="/v1/health">Health</a> and <a href="/metrics">metrics</a></li>
</ul>
<p class="soft">Version {version}</p>"""


@route("/", http_method=[HttpMethod.GET, HttpMethod.HEAD], opt=PUBLIC, tags=["health"])
async def front(services: Services, request: Request[None, None, State]) -> Response[responses.Front | str]:
    """What this service is, whether it is ready, and where to go: a page for browsers, JSON for other clients.

    A key is checked if one is sent; the number of models that it may use is only shown with one.
    """
    caller = caller_if_known(services, request)
    trouble = services.supervisor.trouble
    answer = responses.Front(
        name=TITLE,
        version=gateway.__version__,
        status="ready" if trouble is None else "not_ready",
        detail=UNSET if trouble is None else trouble,
        models=UNSET if caller is None else len(services.registry.models(caller.user)),
    )
    if request.accept.best_match([MediaType.JSON, MediaType.HTML], MediaType.JSON) == MediaType.JSON:
        return Response(answer, headers=HEADERS)
    base_url = (services.settings.base_url or str(request.base_url)).rstrip("/")
    page = pages.page(TITLE, _body(answer, base_url), None if trouble is None else REFRESH_SECONDS)
    return Response(page, media_type=MediaType.HTML, headers=HEADERS | pages.HEADERS)


def _body(answer: responses.Front, base_url: str) -> str:
    count = to_builtins(answer).get("models")
    state = f"Not ready: {answer.detail}" if answer.status != "ready" else "Ready"
    if count is not None:
        state += f". Your key can use {count} model{'' if count == 1 else 's'}."
    return BODY.format(
        title=TITLE,
        what=escape(WHAT),
        is_ready=" ready" if answer.status == "ready" else "",
        state=escape(state),
        url=escape(shlex.quote(base_url), quote=False),
        base=escape(base_url),
        version=escape(answer.version),
    )
