"""The state of a repo at a glance."""

from litestar import Router, get
from litestar.params import FromPath

from baker.history import undo_stack
from baker.history.operation_table import OperationTable
from baker.history.undo_stack import Entry
from baker.repos.catalog import Catalog
from baker.repos.repo_view import repo_view
from gateway.protocol import history
from gateway.routes.dependencies import Caller, Services
from gateway.routes.history.operations import view


@get("/status")
async def status(services: Services, caller: Caller, repo: FromPath[str]) -> history.Status:
    """Where the repo stands. Its current branch, the number of its names and versions, its active jobs, and what an
    undo or redo would do."""
    return await services.catalog(_read, caller.user, repo)


def _read(catalog: Catalog, user: str, repo: str) -> history.Status:
    base_model = catalog.repo(user, repo).base_model
    names = repo_view(catalog, user, repo)
    operations = catalog.history.operations
    stacks = undo_stack.stacks(operations.outline(user, repo))
    return history.Status(
        repo=repo,
        base_model=base_model,
        head=names.head,
        refs=len(names.refs) + sum(commit is not None for commit in names.bakes.values()),
        commits=len(names.parents),
        jobs=[
            history.ActiveJob(
                number=job.id,
                stage=job.stage,
                name=job.name,
                state=job.state,
                progress_percent=job.progress_percent,
            )
            for job in catalog.active_jobs_in(user, repo)
        ],
        undo=_next(operations, user, repo, stacks.undo),
        redo=_next(operations, user, repo, stacks.redo),
    )


def _next(operations: OperationTable, user: str, repo: str, stack: list[Entry]) -> history.Operation | None:
    is_possible = bool(stack) and stack[-1].is_possible
    return view(operations.get(user, repo, stack[-1].operation.id), {}) if is_possible else None


ROUTER = Router("/v1/repo/{repo:str}", route_handlers=[status], tags=["history"])
