"""What a client reads if no route serves its path or method: what is missing, and what to use instead.

Everything under /v1 that isn't the Bread API's has the error shape of OpenAI's or Anthropic's clients. Their Python
clients show only "Error code: 404" for any other shape.
"""

from collections.abc import Iterable
from typing import NamedTuple

from baker.model_names import shortened
from gateway.protocol.errors import Shape

BREAD_PATHS = ("/v1/repo", "/v1/admin", "/v1/health", "/v1/files/weights", "/v1/models/download")
ANTHROPIC_PATHS = ("/v1/messages", "/v1/complete", "/v1/organizations")
OPENAI_PATHS = ("/v1", "/tokenize", "/detokenize", "/tokenizer_info")

ONLY_TEXT = "the served models read and write text only"
NOT_STORED = "this service stores no conversations: send the whole conversation with each request"

NO_OLLAMA = "Ollama's API is not offered: use an OpenAI client, with a base URL that ends with /v1"

MISSING = {
    "/api/chat": NO_OLLAMA,
    "/api/generate": NO_OLLAMA,
    "/api/show": NO_OLLAMA,
    "/api/tags": NO_OLLAMA,
    "/v1/assistants": f"Assistants are not offered, since {NOT_STORED} (/v1/chat/completions or /v1/responses)",
    "/v1/audio": f"Audio is not offered: {ONLY_TEXT}",
    "/v1/batches": "Batches are not offered: send the requests themselves, as many at once as you like; they wait in a "
    "queue (--max-waiting)",
    "/v1/chatkit": "ChatKit is not offered: use /v1/chat/completions or /v1/responses",
    "/v1/classify": f"Classification is not offered: {ONLY_TEXT}",
    "/v1/complete": "Anthropic's text completions are not offered: use POST /v1/messages",
    "/v1/containers": "Containers are not offered: run code on the client's side, in answer to tool calls",
    "/v1/conversations": f"Conversations are not offered, since {NOT_STORED} (/v1/responses)",
    "/v1/edits": "Edits are not offered: use /v1/chat/completions",
    "/v1/engines": "Engines are not offered: GET /v1/models lists the models",
    "/v1/evals": "Evals are not offered: ask the models with /v1/chat/completions and compare the answers yourself",
    "/v1/files": "Files are not offered: put their text into the messages. GET /v1/repo/{repo}/bakes/{bake}/download "
    "returns a link to a bake's weights",
    "/v1/fine-tunes": "Fine-tuning jobs are not offered: bake a prompt into the model instead (docs/api.md, By hand)",
    "/v1/fine_tuning": "Fine-tuning jobs are not offered: bake a prompt into the model instead (docs/api.md, By hand)",
    "/v1/images": f"Images are not offered: {ONLY_TEXT}",
    "/v1/messages/batches": "Message batches are not offered: send the requests themselves to /v1/messages, as many at "
    "once as you like; they wait in a queue (--max-waiting)",
    "/v1/moderations": "Moderations are not offered, since no moderation model is served: ask a served model with "
    "/v1/chat/completions",
    "/v1/organization": "Organizations are not offered: the master key manages users under /v1/admin/users",
    "/v1/organizations": "Organizations are not offered: the master key manages users under /v1/admin/users",
    "/v1/pooling": f"Pooling is not offered: {ONLY_TEXT}",
    "/v1/realtime": "Realtime sessions are not offered: set stream to true in /v1/chat/completions or /v1/responses",
    "/v1/rerank": f"Reranking is not offered: {ONLY_TEXT}",
    "/v1/responses/compact": "Compacting is not offered: shorten the conversation on the client's side",
    "/v1/responses/input_tokens": "Counting a response's input is not offered: use /v1/tokenize or "
    "/v1/messages/count_tokens",
    "/v1/score": f"Scoring is not offered: {ONLY_TEXT}",
    "/v1/threads": f"Threads are not offered, since {NOT_STORED} (/v1/chat/completions or /v1/responses)",
    "/v1/uploads": "Uploads are not offered: put the files' text into the messages",
    "/v1/vector_stores": "Vector stores are not offered: search on the client's side and put the results into the "
    "messages",
    "/v1/videos": f"Videos are not offered: {ONLY_TEXT}",
}
"""Path of an API that clients know -> what to say about it and everything below it."""
TAILS = (
    "chat/completions",
    "completions",
    "detokenize",
    "embeddings",
    "messages",
    "messages/count_tokens",
    "models",
    "repo",
    "responses",
    "tokenize",
)
"""Paths under /v1 that clients append to their base URL."""


class Unserved(NamedTuple):
    status: int
    """404, or 405 if the path exists."""
    shape: Shape | None
    """None: the Bread API's shape."""
    message: str


def explain(method: str, path: str, *, allowed: list[str] | None, is_anthropic: bool) -> Unserved:
    """What to answer to a request that no route serves.

    Args:
        allowed: the methods that the path supports; None if there is no such path.
        is_anthropic: whether the request names a version of Anthropic's API.
    """
    path = "/" + "/".join(part for part in path.split("/") if part)
    shape, shown = _shape(path, is_anthropic), shortened(path)
    is_ours = _longest(path, BREAD_PATHS) is not None
    if not is_ours and (known := _longest(path, MISSING)) is not None:
        return Unserved(404, shape, MISSING[known])
    if path.startswith("/v1/responses/"):  # a route for any name is there, but not for every method
        return Unserved(404, shape, f"There is no route {method} {shown}: responses are not stored here")
    if allowed is not None:
        return Unserved(405, shape, _refusal(method, path, allowed))
    if not is_ours and (meant := _meant(path)) is not None:
        return Unserved(404, _shape(meant, is_anthropic), f"There is no route {method} {shown}. {_hint(meant)}")
    reason = ": chat completions are not stored here" if path.startswith("/v1/chat/completions/") else ""
    return Unserved(404, shape, f"There is no route {method} {shown}{reason}")


def _shape(path: str, is_anthropic: bool) -> Shape | None:
    if _longest(path, BREAD_PATHS) is not None or _longest(path, OPENAI_PATHS) is None:
        return None
    return "anthropic" if is_anthropic or _longest(path, ANTHROPIC_PATHS) is not None else "openai"


def _refusal(method: str, path: str, allowed: list[str]) -> str:
    others = " or ".join(name for name in allowed if name not in ("HEAD", "OPTIONS"))
    message = f"{shortened(path)} does not support {method}: use {others}"
    if method == "DELETE" and _is_under(path, "/v1/models"):
        message += ". DELETE /v1/repo/{repo}/bakes/{bake} removes a bake"
    return message


def _meant(path: str) -> str | None:
    """The route that a client with a wrong base URL means: /v1 is missing or doubled, or a route is part of the URL."""
    parts = path.strip("/").split("/")
    for start, part in enumerate(parts):
        rest = "/".join(parts[start:])
        is_doubled = start > 1 and parts[start - 1] == "v1" and part in ("models", "repo")
        if (rest in TAILS or is_doubled) and f"/v1/{rest}" != path:
            return f"/v1/{rest}"
    return None


def _hint(meant: str) -> str:
    shown = shortened(meant)
    if _is_under(meant, "/v1/messages"):
        return f"Did you mean {shown}? The base URL of Anthropic's clients ends before /v1"
    if _is_under(meant, "/v1/repo"):
        return f"Did you mean {shown}? The base URL of the Bread clients ends before /v1"
    return f"Did you mean {shown}? The base URL of OpenAI's clients ends with /v1 and has nothing after it"


def _longest(path: str, known: Iterable[str]) -> str | None:
    """The longest of the known paths that is `path` or above it."""
    return max((each for each in known if _is_under(path, each)), key=len, default=None)


def _is_under(path: str, parent: str) -> bool:
    return path == parent or path.startswith(f"{parent}/")
