"""Liveness, readiness, versions and metrics."""

from litestar import HttpMethod, Request, Response, get, route
from litestar.datastructures import State
from msgspec import UNSET

import gateway
from gateway.observability import metrics
from gateway.protocol import responses
from gateway.routes.dependencies import Services
from gateway.routes.guards import PUBLIC, caller_if_known


@get("/v1/health", opt=PUBLIC, tags=["health"])
async def health(services: Services, request: Request[None, None, State]) -> responses.Health:
    """The service is alive: `healthy`, or `degraded` with the reason while the engine is starting, dead or stalled.

    A key is checked if one is sent.
    """
    return _health(services, with_reason=_has_master_key(services, request))


@get("/health", opt=PUBLIC, tags=["health"])
async def liveness(services: Services) -> responses.Health:
    """Like `/v1/health`, without a key: for load balancers and container health checks."""
    return _health(services)


@get("/ready", opt=PUBLIC, tags=["health"])
async def readiness(services: Services) -> Response[responses.Health]:
    """200 if the engine generated a token recently and can answer a request now; else 503."""
    return Response(_health(services), status_code=200 if services.supervisor.is_ready else 503)


@route("/ping", http_method=[HttpMethod.GET, HttpMethod.POST], opt=PUBLIC, tags=["health"], status_code=200)
async def ping(services: Services) -> Response[responses.Health]:
    """The same as /ready, under the name that vLLM and SageMaker use."""
    return Response(_health(services), status_code=200 if services.supervisor.is_ready else 503)


@get("/version", opt=PUBLIC, tags=["health"])
async def version() -> responses.Version:
    """The versions of vLLM and of this service."""
    versions = metrics.versions()
    return responses.Version(version=versions["vllm"], gateway=versions["version"])


@get("/metrics", opt=PUBLIC, tags=["health"], media_type="text/plain; version=0.0.4")
async def prometheus(services: Services, request: Request[None, None, State]) -> bytes:
    """Metrics in Prometheus' format. Names of users, repos and bakes need the master key."""
    return await metrics.render(services, with_names=_has_master_key(services, request))


def _health(services: Services, *, with_reason: bool = False) -> responses.Health:
    trouble, reason = services.supervisor.trouble, services.supervisor.reason
    if trouble is not None and reason is not None and with_reason:
        trouble = f"{trouble}: {reason}"
    return responses.Health(
        status="healthy" if trouble is None else "degraded",
        api="bread-api",
        version=gateway.__version__,
        detail=UNSET if trouble is None else trouble,
    )


def _has_master_key(services: Services, request: Request[None, None, State]) -> bool:
    """Whether the master key was sent. Raises: UnauthorizedError if an unknown key was sent."""
    caller = caller_if_known(services, request)
    return caller is not None and caller.is_master


HANDLERS = [health, liveness, readiness, ping, version, prometheus]
