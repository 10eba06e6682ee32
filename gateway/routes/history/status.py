"""The state of a repo at a glance."""

from litestar import Router, get
from litestar.params import FromPath

from baker.repos.catalog import Catalog
from baker.repos.repo_view import repo_view
from gateway.protocol import history
from gateway.routes.dependencies import Caller, Services


@get("/status")
async def status(services: Services, caller: Caller, repo: FromPath[str]) -> history.Status:
    """The repo's current branch, the number of its names and versions, and its jobs that wait or run."""
    return await services.catalog(_read, caller.user, repo)


def _read(catalog: Catalog, user: str, repo: str) -> history.Status:
    base_model = catalog.repo(user, repo).base_model
    view = repo_view(catalog, user, repo)
    return history.Status(
        repo=repo,
        base_model=base_model,
        head=view.head,
        refs=len(view.refs) + sum(commit is not None for commit in view.bakes.values()),
        commits=len(view.parents),
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
    )


ROUTER = Router("/v1/repo/{repo:str}", route_handlers=[status], tags=["history"])
