"""Shows the registry what a repo's names mean now, after rows changed."""

from baker.repos.repo_view import repo_view
from gateway.services import Services


async def show_names(services: Services, user: str, repo: str) -> None:
    """Serve the repo's branches, tags and revisions as the rows have them now, before the client is answered."""
    services.registry.show(await services.catalog(repo_view, user, repo))
