"""Is the service alive, can it answer, and how is it doing."""

from litestar import Request, Response, get
from litestar.datastructures import State

import gateway
from gateway import metrics
from gateway.protocol import responses
from gateway.routes.dependencies import Services

PUBLIC = {"public": True}
"""Routes for load balancers and scrapers, which hold no key."""


@get("/v1/health", opt=PUBLIC, tags=["health"])
async def health(services: Services, request: Request[None, None, State]) -> responses.Health:
    """Alive; `degraded` while the engine is starting or dead. Checks a key if one is sent."""
    if (authorization := request.headers.get("authorization")) is not None:
        services.keys.identify(authorization)
    return _health(services)


@get("/health", opt=PUBLIC, tags=["health"])
async def liveness(services: Services) -> responses.Health:
    return _health(services)


@get("/ready", opt=PUBLIC, tags=["health"])
async def readiness(services: Services) -> Response[responses.Health]:
    """200 if a request would be answered now, else 503."""
    return Response(_health(services), status_code=200 if services.engine.is_ready else 503)


@get("/metrics", opt=PUBLIC, tags=["health"], media_type="text/plain; version=0.0.4; charset=utf-8")
async def prometheus(services: Services) -> bytes:
    return await metrics.render(services)


def _health(services: Services) -> responses.Health:
    return responses.Health(
        status="healthy" if services.engine.is_ready else "degraded",
        api="bread-api",
        version=gateway.__version__,
    )


HANDLERS = [health, liveness, readiness, prometheus]
