"""Lineage of bakes: the tree of a repo, what a bake depends on, and the steps that recreate it."""

from litestar import Router, get
from litestar.params import FromPath

from baker.versions import lineage
from baker.versions import recipe as recipes
from gateway.protocol import responses
from gateway.routes.bread import views
from gateway.routes.dependencies import Caller, Services


@get("/recipe/{bake:str}/dependency-graph")
async def dependency_graph(
    services: Services, caller: Caller, repo: FromPath[str], bake: FromPath[str]
) -> responses.DependencyGraph:
    """The bake, its parents, their targets and prompts, and the dependencies between them."""
    return views.dependency_graph(await services.catalog(recipes.recipe, caller.user, repo, bake))


@get("/recipe/{bake:str}/recreation-plan")
async def recreation_plan(
    services: Services, caller: Caller, repo: FromPath[str], bake: FromPath[str]
) -> responses.RecreationPlan:
    """The calls that recreate the bake, in an order that works."""
    recipe = await services.catalog(recipes.recipe, caller.user, repo, bake)
    return views.recreation_plan(recipe, lineage.recreation_plan(recipe, bake))


@get("/tree")
async def tree(services: Services, caller: Caller, repo: FromPath[str]) -> responses.Tree:
    """All bakes of the repo, and the bake that each one starts from, even if that was deleted."""
    return views.tree(await services.catalog(lineage.tree, caller.user, repo))


ROUTER = Router("/v1/repo/{repo:str}", route_handlers=[dependency_graph, recreation_plan, tree], tags=["lineage"])
