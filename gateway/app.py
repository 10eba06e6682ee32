"""Builds the application from settings, store, engine and routes: the only place that wires them together."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.plugins.prometheus import PrometheusConfig

from baker.adapters.base_fingerprint import base_fingerprint
from baker.comparison.comparisons import Comparisons
from baker.history.revisions import RepoView
from baker.jobs.policy import Policy
from baker.jobs.queue import Jobs
from baker.jobs.stages import Stages, StageSettings
from baker.model_names import BaseModelNames
from baker.repos import records
from baker.repos.catalog import Catalog
from baker.repos.repo_view import repo_view
from baker.storage.home import IMPORT, IMPORT_PREFIX, job_folder, jobs_folder
from baker.storage.models_folder import StudentModels
from baker.storage.one_thread import OneThread
from baker.transfer.blobs import largest_blob, vocabulary
from baker.transfer.uploads import Uploads
from baker.types import Checkpoint
from baker.versions.archive import Archives
from baker.versions.commits import backfill
from baker.versions.imports import ImportFolders
from gateway.access.accounts import Accounts
from gateway.access.auth import Keys
from gateway.access.signed_links import Links
from gateway.config import Settings
from gateway.engine import Engine, Handlers
from gateway.engine.core.supervisor import Supervisor
from gateway.http import bodies, cors, heads, hosts, openapi, request_ids
from gateway.http.errors import bread_error, error_event
from gateway.inference.admission import Admission
from gateway.inference.delivery import Patience
from gateway.inference.pipeline import Pipeline
from gateway.inference.rate_limits import Limits
from gateway.inference.request_log import RequestLog
from gateway.inference.request_metrics import RequestMetrics
from gateway.routes import anthropic, front, guards, health, lora, models, openai
from gateway.routes.bread import admin, bakes, downloads, lineage, repos, targets
from gateway.routes.history import (
    bisect,
    blame,
    commits,
    diff,
    gc,
    merges,
    operations,
    probes,
    refs,
    remotes,
    status,
    transfer,
)
from gateway.services import Services
from gateway.serving.imports import Imports
from gateway.serving.promotion import Promotion
from gateway.serving.receiving import Receiving
from gateway.serving.recycle_bin import RecycleBin
from gateway.serving.registry import Registry
from gateway.serving.undo import Undo

MIB = 1 << 20
HISTORY = (
    commits,
    refs,
    status,
    transfer,
    remotes,
    probes,
    diff,
    blame,
    bisect,
    merges,
    operations,
    gc,
)
"""Modules of the routes of a repo's history."""
WITH_OWN_METRICS = "^(/v1)?/(chat/completions|completions|responses|messages|messages/count_tokens|(de)?tokenize)$"
"""Paths without Litestar's metrics, which take 3 to 4 % of a stream's CPU time: model requests have their own
(`inference/request_metrics.py`)."""
ROLLOUT_MAX_TOKENS, EMBEDDED_ROLLOUT_MAX_TOKENS = 1024, 192


def build_services(settings: Settings, home: Path, key: str, engine: Engine, base: BaseModelNames) -> Services:
    """Open the store and build the objects that routes work with; nothing runs yet."""
    fingerprint = base_fingerprint(engine.path)
    catalog = OneThread(lambda: Catalog(home, base, fingerprint), "store")
    registry = Registry(engine, base)
    uploads = Uploads(home, largest_blob(engine.path, settings.max_lora_rank))
    stage_settings = StageSettings(
        top_logprobs=settings.top_logprobs,
        anthropic_api_key=settings.anthropic_api_key or None,
        anthropic_base_url=settings.anthropic_base_url or None,
        trainer_threads=settings.trainer_threads or None,
        trainer_devices=settings.trainer_devices or None,
        allows_wandb=settings.wandb == "on",
    )
    policy = Policy(
        has_anthropic_key=bool(settings.anthropic_api_key),
        stim_fallback=settings.stim_fallback == "on",
        max_lora_rank=settings.max_lora_rank,
        rollout_max_tokens=settings.rollout_max_tokens or _rollout_max_tokens(base),
        students=StudentModels(home, engine.path),
    )
    stages = Stages(home, catalog, engine.generation, engine, registry, stage_settings)
    keys = Keys(key)
    return Services(
        settings=settings,
        home=home,
        keys=keys,
        accounts=Accounts(catalog, keys),
        catalog=catalog,
        jobs=Jobs(catalog, stages, policy),
        registry=registry,
        imports=Imports(home, catalog, registry, base, ImportFolders(_import_folders(settings, home))),
        uploads=uploads,
        receiving=Receiving(home, catalog, registry, uploads, vocabulary(engine.path)),
        promotion=Promotion(catalog, registry),
        undo=Undo(catalog, registry),
        bin=RecycleBin(home, catalog, registry, uploads),
        archives=Archives(home, catalog, engine),
        comparisons=Comparisons(home, catalog, engine.generation, engine, stages.neutral, settings.top_logprobs),
        merger=stages.merger,
        links=Links(home),
        engine=engine,
        supervisor=Supervisor(engine, stall_seconds=settings.engine_stall_seconds),
        pipeline=build_pipeline(settings, registry, engine, Handlers(engine, error_event)),
        started=int(time.time()),
    )


def _import_folders(settings: Settings, home: Path) -> list[Path]:
    return [home / IMPORT, *(Path(text) for text in settings.import_folders.split(os.pathsep) if text)]


def build_pipeline(settings: Settings, registry: Registry, engine: Engine, handlers: Handlers) -> Pipeline:
    limits = Limits(settings.key_concurrency, settings.key_requests_per_minute, settings.key_tokens_per_minute)
    admission = Admission(batch_size=lambda: engine.max_num_seqs, max_waiting=settings.max_waiting, limits=limits)
    return Pipeline(
        registry,
        engine,
        handlers,
        admission=admission,
        patience=Patience(
            answer=settings.request_timeout_seconds,
            keep_alive=settings.stream_keep_alive_seconds,
            answer_keep_alive=settings.answer_keep_alive_seconds,
            stall=settings.stream_stall_seconds,
        ),
        log=RequestLog(with_prompts=settings.log_prompts == "on"),
        metrics=RequestMetrics(admission),
    )


def _rollout_max_tokens(base: BaseModelNames) -> int:
    """The embedded model seldom ends an answer: 32 of 53 reached 1,024 tokens. After 97 s on two cores their bake had
    done a tenth, so all of it would have taken a quarter of an hour."""
    return EMBEDDED_ROLLOUT_MAX_TOKENS if base.stands_in else ROLLOUT_MAX_TOKENS


def build_app(
    services: Services,
    on_ready: Callable[[], None] = lambda: None,
    on_failure: Callable[[BaseException], None] = lambda error: None,
) -> Litestar:
    """The application. It accepts requests at once; model requests get 503 while the engine starts or restarts.

    Args:
        on_ready: called when the engine is ready for the first time.
        on_failure: called if the first start of the engine fails.
    Raises: ConfigError if --allowed-origins names something else than origins.
    """
    app = Litestar(
        route_handlers=[
            repos.ROUTER,
            targets.ROUTER,
            bakes.ROUTER,
            lineage.ROUTER,
            *(noun.ROUTER for noun in HISTORY),
            downloads.ROUTER,
            admin.ROUTER,
            openai.ROUTER,
            models.ROUTER,
            lora.ROUTER,
            anthropic.ROUTER,
            *health.HANDLERS,
            front.front,
        ],
        dependencies={
            "services": Provide(lambda: services, sync_to_thread=False),
            "caller": Provide(guards.caller, sync_to_thread=False),
        },
        guards=[guards.require_key],
        exception_handlers={Exception: bread_error},
        lifespan=[lambda _: _running(services, on_ready, on_failure)],
        middleware=[
            PrometheusConfig(
                app_name="bread", prefix="bread_http", group_path=True, exclude=[WITH_OWN_METRICS]
            ).middleware
        ],
        before_request=bodies.check_body,
        before_send=[request_ids.add_to_answer, cors.complete],
        cors_config=cors.config(services.settings.allowed_origins),
        request_max_body_size=services.settings.max_body_mib * MIB,
        openapi_config=openapi.config(),
        state=State({"services": services}),
        logging_config=None,
    )
    app.asgi_handler = hosts.Hosts(heads.Heads(app))
    return app


@asynccontextmanager
async def _running(
    services: Services, on_ready: Callable[[], None], on_failure: Callable[[BaseException], None]
) -> AsyncIterator[None]:
    """Runs the engine's supervisor and the job queue while the application is up."""
    await asyncio.to_thread(_sweep, services.home, *await services.catalog(_job_numbers))
    await services.accounts.restore()
    await services.catalog(backfill)
    services.registry.restore(*await services.catalog(_served))
    tasks = [
        asyncio.create_task(services.supervisor.run(on_ready, on_failure)),
        asyncio.create_task(services.jobs.run()),
        asyncio.create_task(services.bin.run()),
    ]
    try:
        yield
    finally:
        for task in reversed(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await services.engine.stop()
        services.catalog.close(Catalog.close)


def _sweep(home: Path, job_numbers: set[int], recorded: set[int]) -> None:
    """Remove what a crash left behind: the folders of deleted jobs and of unfinished imports, and the weights of bakes
    of which only a record is kept."""
    folders = jobs_folder(home)
    for number in recorded:
        records.strip(job_folder(home, number))
    for folder in folders.iterdir() if folders.exists() else ():
        if folder.name.startswith(IMPORT_PREFIX) or (folder.name.isdigit() and int(folder.name) not in job_numbers):
            shutil.rmtree(folder, ignore_errors=True)


def _job_numbers(catalog: Catalog) -> tuple[set[int], set[int]]:
    """Numbers of all jobs, and of those that are only records of deleted bakes."""
    return catalog.store.jobs.numbers(), catalog.store.jobs.deleted_numbers()


def _served(catalog: Catalog) -> tuple[list[Checkpoint], list[Checkpoint], list[RepoView]]:
    """The served checkpoints, newest first; those that a name was moved to, latest move first; and all repos' names."""
    checkpoints, moved = catalog.store.checkpoints.all(), catalog.store.checkpoints.all_moved()
    views = [repo_view(catalog, *place) for place in catalog.store.all_repos()]
    return [each for each in checkpoints if each.is_served], [each for each in moved if each.is_served], views
