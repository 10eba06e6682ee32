"""Trees of bakes, and the steps to make a bake again. What a bake is made of is in `recipe.py`.

Reads only.
"""

from collections.abc import Iterator

import msgspec

from baker.repos.catalog import Catalog
from baker.status import JobState
from baker.storage.rows import Row
from baker.versions.recipe import Edge, Node, Reader, Recipe, plain


class Step(msgspec.Struct, frozen=True):
    """One call of a recreation plan."""

    action: str
    resource: Node
    dependencies: list[str]
    """`type:name` or `type:name:state`."""
    config: Row
    """Settings of the resource; a run step repeats them, since scripts create a resource before they run it."""
    deleted: bool = False
    """Whether the resource is a bake that was deleted."""


class Branch(msgspec.Struct, frozen=True):
    """One bake of a repo's tree."""

    name: str
    """Name of the bake. In the tree, a deleted one has another if the same name was given again."""
    status: str
    model_names: list[str]
    """Empty for a deleted bake."""
    steps: list[int]
    config: Row
    parent: str | None
    """Full name of the checkpoint that it began from, in any repo; None: the base model, or it was not run yet."""
    parents: list[str]
    """All checkpoints that it continues, `parent` first: several for a merge."""
    deleted: bool


class Tree(msgspec.Struct, frozen=True):
    base_model: str
    bakes: dict[str, Branch]
    edges: list[Edge]
    """Between bakes of this repo only."""


def recreation_plan(made_of: Recipe, bake: str) -> list[Step]:
    """The calls that make the bake again, in order of their dependencies."""
    needs: dict[Node, list[Node]] = {}
    for source, needed in made_of.edges:
        needs.setdefault(source, []).append(needed)
    return [step for node in _in_order(Node("bake", bake), needs) for step in _steps(node, needs, made_of)]


def tree(catalog: Catalog, user: str, repo: str) -> Tree:
    """All bakes of the repo, their parents, and those deleted ones that they came from.

    Raises: NotFoundError if there is no such repo.
    """
    reader = Reader(catalog, user, repo)
    branches: dict[str, Branch] = {}
    edges: list[Edge] = []
    queue = catalog.names("bakes", user, repo)
    queued = set(queue)
    for name in queue:  # it grows while it is walked
        source, is_deleted = reader.source(name), name in reader.records
        further = reader.further_parents(name)
        began_from = None if source.start is None else source.start.checkpoint
        branches[name] = Branch(
            name=reader.records[name].name if is_deleted else name,
            status=JobState.NOT_STARTED if source.start is None else source.start.state,
            model_names=reader.model_names(name),
            steps=reader.steps(name),
            config=source.config,
            parent=began_from,
            parents=[parent for parent in (began_from, *further) if parent is not None],
            deleted=is_deleted,
        )
        for parent in dict.fromkeys((source.parent, *further.values())):
            if parent is None:
                continue
            edges.append(Edge(Node("bake", name), Node("bake", parent)))
            if parent not in queued:
                queue.append(parent)
                queued.add(parent)
    return Tree(catalog.repo(user, repo).base_model, branches, edges)


def _in_order(root: Node, needs: dict[Node, list[Node]]) -> Iterator[Node]:
    """The node after everything that it needs. A circle (a target answered by a later version of the bake that uses
    it) is cut where it closes. Lineages may be thousands of bakes deep."""
    seen = {root}
    stack = [(root, iter(needs.get(root, [])))]
    while stack:
        node, rest = stack[-1]
        following = next((needed for needed in rest if needed not in seen), None)
        if following is None:
            stack.pop()
            yield node
        else:
            seen.add(following)
            stack.append((following, iter(needs.get(following, []))))


def _steps(node: Node, needs: dict[Node, list[Node]], made_of: Recipe) -> list[Step]:
    needed = needs.get(node, [])
    prompts = [f"prompt:{name}" for kind, name in needed if kind == "prompt"]
    targets = [f"target:{name}:rollout_complete" for kind, name in needed if kind == "target"]
    bakes = [f"bake:{name}:complete" for kind, name in needed if kind == "bake"]
    # A deleted bake's checkpoints can't be used any more: what began from them begins from the recreated bake.
    recreated = next(
        (f"{made_of.repo}/{name}" for kind, name in needed if kind == "bake" and name in made_of.deleted), None
    )
    match node.kind:
        case "prompt":
            prompt = made_of.prompts[node.name]
            return [] if prompt is None else [Step("create_prompt", node, [], plain(prompt))]
        case "target":
            config = made_of.targets[node.name]
            if config is None:
                return []
            if recreated is not None:
                config = {**config, "model_name": recreated}
            return [
                Step("create_target", node, [*prompts, *bakes], config),
                Step("run_stim", node, [f"target:{node.name}"], config),
                Step("run_rollout", node, [f"target:{node.name}:stim_complete"], config),
            ]
        case "bake":
            config = made_of.bakes[node.name]
            is_deleted = node.name in made_of.deleted
            if (merge := made_of.merges.get(node.name)) is not None:
                model = {key: value for key, value in config["model"].items() if key != "parent_model_name"}
                config = {**config, "model": model, "merge": merge}
            elif recreated is not None:
                config = {**config, "model": {**config["model"], "parent_model_name": recreated}}
            return [
                Step("create_bake", node, [*targets, *bakes], config, is_deleted),
                Step("run_bake", node, [f"bake:{node.name}"], config, is_deleted),
            ]
