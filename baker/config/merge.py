"""Settings under `merge`: the bake's weights are combined from other versions'."""

from collections.abc import Iterator
from typing import Annotated

import msgspec

from baker.config.mistakes import Mistake, check
from baker.config.ranges import Positive
from baker.config.spellings import MERGE_KINDS, MERGE_STRATEGIES, RESOLUTIONS, meaning, misspelling

MOST_PARENTS = 4
"""Of a merge. More teachers hurt each other, and the sum of their ranks is rarely served."""

Weight = Annotated[float, msgspec.Meta(ge=-10.0, le=10.0)]


class MergeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is merged, and how. Without `others` the bake is no merge."""

    kind: str = "merge"
    """`merge`; `cherry_pick`: adds what the other version changed; `revert`: takes out what an ancestor changed."""
    others: list[str] = []
    """Revisions of the repo to merge into the bake's parent: one to three; for the other kinds one."""
    into: str | None = None
    """Revision of the repo that they are merged into; absent: the bake's parent (`model.parent_model_name`)."""
    weights: list[Weight] = []
    """Weight of what each version changed, the bake's parent first; absent: 1 each."""
    base: str | None = None
    """Revision that the changes are counted from, or `base`; absent: the versions' merge base, or for the other kinds
    the parent of the other version."""
    strategy: str = "auto"
    """`algebra`: only the weights are added up; `distill`: trained on the versions' own data, from that sum; `auto`:
    the first, and the second if that loses too much; `compose`: trained on both prompts joined (the datasets)."""
    resolution: str | None = None
    """Whose answers count for questions that both changed in different ways: `ours` or `theirs`. Absent: such a merge
    fails."""
    rank: Positive | None = None
    """Highest rank of the sum; absent: the highest that the service serves."""
    probe: str | None = None
    """Probe of the repo whose questions measure the versions that have no held-out rows, such as imported ones."""
    allows_held_back: bool = False
    """Whether versions may be merged that a gate held back."""

    def __post_init__(self) -> None:
        wrong_weights = self.weights and len(self.weights) != len(self.others) + 1
        too_many = len(self.others) >= MOST_PARENTS
        is_pair = misspelling("kind", self.kind, MERGE_KINDS) is None and self.meant_kind != "merge"
        check(
            misspelling("kind", self.kind, MERGE_KINDS),
            misspelling("strategy", self.strategy, MERGE_STRATEGIES),
            misspelling("resolution", self.resolution, RESOLUTIONS),
            Mistake(("others",), f"{len(self.others)} versions, at most {MOST_PARENTS - 1} are merged into the parent")
            if too_many
            else Mistake(("others",), f"{len(self.others)} versions, but a {self.kind} takes one")
            if is_pair and len(self.others) > 1
            else None,
            Mistake(
                ("weights",), f"{len(self.weights)} weights for {len(self.others) + 1} versions: the parent's is first"
            )
            if wrong_weights
            else None,
            *self._contradictions(),
        )

    def _contradictions(self) -> Iterator[Mistake]:
        """Settings that would have no effect, or another than they say."""
        if any(
            misspelling(*text)
            for text in (("kind", self.kind, MERGE_KINDS), ("strategy", self.strategy, MERGE_STRATEGIES))
        ):
            return
        kind, strategy = self.meant_kind, self.meant_strategy
        if strategy == "compose" and kind != "merge":
            yield Mistake(("strategy",), f"a {kind} can't be composed: choose auto, algebra or distill")
        if kind == "revert" and len(self.weights) > 1 and self.weights[1] >= 0:
            yield Mistake(("weights",), f"{self.weights[1]:g} for what is taken out, which needs a weight below 0")
        if self.resolution is None:
            return
        if kind == "revert" or len(self.others) > 1:
            yield Mistake(("resolution",), f"{self.resolution!r} needs a merge of two versions")
        if strategy in ("algebra", "compose"):
            yield Mistake(
                ("resolution",), f"{self.resolution!r} decides which rows are trained on: choose auto or distill"
            )

    @property
    def is_set(self) -> bool:
        return bool(self.others)

    @property
    def meant_kind(self) -> str:
        return meaning("kind", self.kind, MERGE_KINDS)

    @property
    def meant_strategy(self) -> str:
        return meaning("strategy", self.strategy, MERGE_STRATEGIES)

    @property
    def meant_resolution(self) -> str | None:
        return None if self.resolution is None else meaning("resolution", self.resolution, RESOLUTIONS)
