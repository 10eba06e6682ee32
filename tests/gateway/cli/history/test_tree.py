"""`bread tree`."""

import itertools
import json
from typing import Any

from tests.gateway.cli.history.answers import server


def bake(status: str = "complete", *checkpoints: int, **fields: Any) -> dict[str, Any]:
    return {"status": status, "checkpoints": list(checkpoints), **fields}


TREE = {
    "base_model": "fake/base",
    "bakes": {
        "pirate": bake("complete", 12, 6),
        "second": bake("running"),
        "third": bake("complete", 3, deleted=True),
        "other": bake("complete", 4, parent="bob/far/away/1"),
    },
    "edges": [["bake", "second", "bake", "pirate"], ["bake", "third", "bake", "second"], ["bake", "x", "target", "y"]],
}


def test_each_bake_stands_under_the_one_that_it_came_from(bread_of: Any) -> None:
    bread = bread_of(server({"GET /tree": TREE}))
    assert bread("tree").out.splitlines() == [
        "fake/base",
        "├─ pirate  version 12",
        "│  └─ second  running",
        "│     └─ third  version 3  deleted",
        "└─ other  version 4  from bob/far/away/1",
    ]
    assert json.loads(bread("tree", "hooli", "--json").out) == TREE


def test_a_merge_stands_under_its_first_parent_and_names_the_others(bread_of: Any) -> None:
    parents = ["admin/hooli/pirate/12", "admin/hooli/json/7"]
    tree = {
        "base_model": "fake/base",
        "bakes": {
            "pirate": bake("complete", 12),
            "json": bake("complete", 7),
            "both": bake("complete", 0, parents=parents, config={"merge": {"others": ["json"]}}),
            "less": bake(
                "complete", 0, parents=parents[:1], config={"merge": {"kind": "revert", "others": ["pirate"]}}
            ),
            "pick": bake("pending", config={"merge": {"kind": "cherry_pick", "others": ["j\x1b"]}}),
        },
        "edges": [
            ["bake", "both", "bake", "pirate"],
            ["bake", "both", "bake", "json"],
            ["bake", "less", "bake", "both"],
        ],
    }
    assert bread_of(server({"GET /tree": tree}))("tree").out.splitlines() == [
        "fake/base",
        "├─ pirate  version 12",
        "│  └─ both  version 0  merges json/7",
        "│     └─ less  version 0  takes out pirate",
        "├─ json  version 7",
        "└─ pick  pending  picks j\\x1b",
    ]


def test_a_lineage_may_be_thousands_of_bakes_deep(bread_of: Any) -> None:
    names = [f"b{number}" for number in range(2000)]
    bake = {"status": "complete", "checkpoints": [1], "parent": None, "config": {}}
    answer = {
        "base_model": "base",
        "bakes": dict.fromkeys(names, bake),
        "edges": [["bake", child, "bake", parent] for parent, child in itertools.pairwise(names)],
    }
    code, out, _ = bread_of(server({"GET /tree": answer}))("tree", "hooli")
    lines = out.splitlines()
    assert (code, len(lines)) == (0, 2001)
    assert lines[-1] == f"{'   ' * 1999}└─ b1999  version 1"
