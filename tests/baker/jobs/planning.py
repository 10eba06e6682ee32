"""The jobs of a small repo as rows that no queue runs."""

from typing import Any

from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.status import Stage
from tests.baker.repos.filled import USER, start


def put_bake(catalog: Catalog, name: str = "bake", **overrides: Any) -> None:
    settings = {"datasets": [{"target": "target"}], **overrides}
    bakes.put(catalog, USER, "repo", name, "default", settings, may_change=True)


def start_both(catalog: Catalog, target: str = "target") -> Any:
    """Start the target's stim and rollout. Returns: the rollout."""
    start(catalog, Stage.STIM, target)
    return start(catalog, Stage.ROLLOUT, target)
