"""Answers of the history's routes, for tests of what the command makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import httpx

Answer = Callable[[httpx.Request], httpx.Response]
Ref = tuple[str, str]
"""Kind and name."""


def commit(name: str, *parents: str, refs: tuple[Ref, ...] = (), message: str = "", **fields: Any) -> dict[str, Any]:
    """A commit whose id is its name, padded with zeros. A ref of kind `head` is the branch of HEAD."""
    return {
        "id": name.ljust(64, "0"),
        "short_id": name.ljust(12, "0"),
        "kind": "bake",
        "message": message or f"made {name}",
        "author": "admin",
        "created": 0,
        "adapter": "a" * 64,
        "recipe": None,
        "base": "b" * 64,
        "parents": [{"id": parent.ljust(64, "0"), "weight": 1.0} for parent in parents],
        "refs": [
            {"name": ref, "kind": "branch" if kind == "head" else kind, "is_head": kind == "head"} for kind, ref in refs
        ],
        "model": f"admin/hooli/{name}/1",
        "notes": {},
        **fields,
    }


def server(routes: Mapping[str, Any], seen: list[httpx.Request] | None = None) -> Answer:
    """Answers by `METHOD path` below /v1/repo/hooli; the value is the body, or (status, body). One repo, `hooli`."""

    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        path = request.url.raw_path.decode().partition("?")[0]
        if path == "/v1/repo":
            return httpx.Response(200, json={"repos": ["hooli"]})
        if path == "/v1/repo/hooli":
            return httpx.Response(200, json={"repo_name": "hooli", "base_model": "fake/base"})
        body = routes.get(f"{request.method} {path.removeprefix('/v1/repo/hooli')}")
        if body is None:
            return httpx.Response(404, json={"message": f"no {path}"})
        status, content = body if isinstance(body, tuple) else (200, body)
        return httpx.Response(status, json=content)

    return answer
