"""Bodies of `POST /v1/repo/{repo}/merges`."""

from typing import Annotated, Any, Literal

import msgspec

from baker.merge_report import MergeReport

Text = Annotated[str, msgspec.Meta(max_length=10_000)]


class MergeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    others: Annotated[list[str], msgspec.Meta(min_length=1)]
    """Revisions to merge: one to three; for a cherry-pick or revert, one."""
    into: str = "HEAD"
    """Revision that they are merged into: by default the current branch's."""
    kind: Literal["merge", "cherry-pick", "revert"] = "merge"
    """`cherry-pick` adds what the other version changed; `revert` takes out what an ancestor changed."""
    name: str | None = None
    """Name of the bake that the merge becomes; absent: made of the versions' names."""
    message: Text | None = None
    """Message of the commit."""
    strategy: Literal["auto", "algebra", "distill", "compose"] = "auto"
    """How the weights are found: see docs/merging.md."""
    weights: list[float] = []
    """Weight of what each version changed, that of `into` first; absent: 1 each."""
    base: str | None = None
    """Revision that the changes are counted from, or `base`; absent: the versions' merge base."""
    resolution: Literal["ours", "theirs"] | None = None
    """Whose answers count for questions that both changed in different ways."""
    rank: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Highest rank of the sum; absent: the highest that the service serves."""
    probe: str | None = None
    """Probe whose questions measure versions without held-out rows."""
    allow_held_back: bool = False
    """Whether versions may be merged that were held back."""
    overrides: dict[str, Any] = {}
    """Further settings of the bake, such as `epochs` or `data.on_policy`."""
    dry_run: bool = False
    """Only plan and measure: nothing is made."""
    stream: bool = False
    """Answer with server-sent events: `progress`, then `result` or `error`."""


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is merged."""

    label: str
    """Name in `report`."""
    commit: str
    weight: float


class Merge(msgspec.Struct, frozen=True, kw_only=True):
    state: Literal["started", "planned", "up_to_date", "fast_forward", "moved"]
    """`planned`: after a dry run; `up_to_date`: nothing had to be done; `fast_forward`: the current branch moved to the
    other version, or may be moved there; `moved`: the newest version of a branch was reverted, so the branch moved to
    its parent."""
    message: str
    bake: str | None = None
    """Name of the bake that the merge becomes; follow it with `GET /bakes/{bake}`."""
    base: str | None = None
    """Id of the merge base's commit; null: the base model."""
    sides: list[Side] = []
    report: MergeReport | None = None
    """What was measured before the merge: the conflict, and the rank of the sum."""
