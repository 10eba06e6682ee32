"""The only wiring: settings, store, engine and routes become one application."""

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from litestar import Litestar, Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.plugins.prometheus import PrometheusConfig

import gateway
from baker.catalog import Catalog
from baker.jobs import Jobs
from baker.models import BaseModelNames
from baker.plan import Policy
from baker.stages import Stages, StageSettings
from baker.threads import OneThread
from baker.types import Checkpoint
from gateway.adapters import Adapters
from gateway.auth import Caller, Keys, act_as
from gateway.config import Settings
from gateway.engine import Engine, Handlers
from gateway.http_errors import bread_error
from gateway.routes import bakes, health, openai, repos, targets
from gateway.services import Services

log = logging.getLogger(__name__)

MIB = 1 << 20
FIRST_RESTART_SECONDS, MAX_RESTART_SECONDS = 1.0, 60.0


def build_services(settings: Settings, home: Path, key: str, engine: Engine, base: BaseModelNames) -> Services:
    """Open the store and wire the owners of things; nothing runs yet."""
    catalog = OneThread(lambda: Catalog(home, base), "store")
    adapters = Adapters(engine, base)
    stage_settings = StageSettings(
        top_logprobs=settings.top_logprobs,
        anthropic_api_key=settings.anthropic_api_key or None,
        anthropic_base_url=settings.anthropic_base_url or None,
        trainer_threads=settings.trainer_threads or None,
    )
    policy = Policy(
        has_anthropic_key=bool(settings.anthropic_api_key),
        stim_fallback=settings.stim_fallback == "on",
        max_lora_rank=settings.max_lora_rank,
    )
    stages = Stages(home, catalog, engine, engine, adapters, stage_settings)
    jobs = Jobs(catalog, stages, policy)
    return Services(
        settings, home, Keys(key), catalog, jobs, adapters, engine, Handlers(engine), started=int(time.time())
    )


def build_app(
    services: Services,
    on_ready: Callable[[], None] = lambda: None,
    on_failure: Callable[[BaseException], None] = lambda error: None,
) -> Litestar:
    """The application. It answers at once; the engine starts beside it, and while it is away, models answer 503.

    Args:
        on_ready: called when the engine answers for the first time.
        on_failure: called if it can't be started for the first time.
    """

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await asyncio.to_thread(_sweep, services.home, await services.catalog(_job_numbers))
        services.adapters.restore(await services.catalog(_checkpoints))
        work = [
            asyncio.create_task(_keep_engine(services, on_ready, on_failure)),
            asyncio.create_task(services.jobs.run()),
        ]
        try:
            yield
        finally:
            for task in reversed(work):
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            await services.engine.stop()
            services.catalog.close(Catalog.close)

    return Litestar(
        route_handlers=[repos.ROUTER, targets.ROUTER, bakes.ROUTER, openai.ROUTER, *health.HANDLERS],
        dependencies={
            "services": Provide(lambda: services, sync_to_thread=False),
            "caller": Provide(_caller, sync_to_thread=False),
        },
        guards=[_require_key],
        exception_handlers={Exception: bread_error},
        lifespan=[lifespan],
        middleware=[PrometheusConfig(app_name="bread", prefix="bread_http", group_path=True).middleware],
        request_max_body_size=services.settings.max_body_mib * MIB,
        openapi_config=OpenAPIConfig(title="Bread Gateway", version=gateway.__version__),
        state=State({"services": services}),
        logging_config=None,
    )


async def _keep_engine(
    services: Services, on_ready: Callable[[], None], on_failure: Callable[[BaseException], None]
) -> None:
    """Start the engine, and another one whenever it dies. Its adapters are loaded again as they are asked for."""
    delay = FIRST_RESTART_SECONDS
    has_run = False
    while True:
        try:
            await services.engine.start()
        except Exception as error:
            log.exception("the engine could not be started")
            if not has_run:  # the operator's settings are wrong, and would be so the next time
                on_failure(error)
                return
            await asyncio.sleep(delay)
            delay = min(2 * delay, MAX_RESTART_SECONDS)
            continue
        if not has_run:
            on_ready()
        has_run, delay = True, FIRST_RESTART_SECONDS
        await services.engine.wait_dead()
        log.error("the engine died; another one is started")
        await services.engine.stop()


def _require_key(connection: ASGIConnection[Litestar, None, None, State], handler: BaseRouteHandler) -> None:
    """Identify the caller of every route that is not public."""
    if handler.opt.get("public"):
        return
    services: Services = connection.app.state.services
    caller = services.keys.identify(connection.headers.get("authorization"))
    user, header = connection.query_params.get("user_id"), connection.headers.get("x-user-id")
    connection.state.caller = act_as(caller, user, header)


def _caller(request: Request[None, None, State]) -> Caller:
    caller: Caller = request.state.caller
    return caller


def _sweep(home: Path, known: set[int]) -> None:
    """Remove the folders of deleted jobs that a crash left behind."""
    folders = home / "jobs"
    for folder in folders.iterdir() if folders.exists() else ():
        if folder.name.isdigit() and int(folder.name) not in known:
            shutil.rmtree(folder, ignore_errors=True)


def _job_numbers(catalog: Catalog) -> set[int]:
    return catalog.store.job_numbers()


def _checkpoints(catalog: Catalog) -> list[Checkpoint]:
    return catalog.store.all_checkpoints()
