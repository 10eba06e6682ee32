"""The rooms of the code and the arrows between them, read from the syntax trees.

A room is a folder of modules. `ARROWS` says which rooms each room may import; modules outside of all rooms (the ground
floor of a package) are open to every room. `python -m tests.test_imports` prints the rooms, floors, and arrows.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ARROWS: dict[str, tuple[str, ...]] = {
    "baker": (),
    "baker.config": (),
    # A job's row holds settings, which are decoded where rows are read.
    "baker.storage": ("baker.config",),
    "baker.adapters": (),
    "baker.history": ("baker.storage",),
    "baker.repos": ("baker.history", "baker.config", "baker.storage"),
    "baker.comparison": (
        "baker.trajectories",
        "baker.versions",
        "baker.repos",
        "baker.history",
        "baker.adapters",
        "baker.storage",
    ),
    "baker.merging": (
        "baker.comparison",
        "baker.trajectories",
        "baker.versions",
        "baker.repos",
        "baker.history",
        "baker.adapters",
        "baker.config",
        "baker.storage",
    ),
    "baker.questions": ("baker.config", "baker.storage"),
    "baker.trajectories": ("baker.config", "baker.storage"),
    "baker.training": (
        "baker.training.devices",
        "baker.adapters",
        "baker.config",
        "baker.storage",
    ),
    "baker.training.devices": (),
    "baker.training.data": (),
    "baker.training.model": ("baker.training.data", "baker.training.devices", "baker.adapters", "baker.storage"),
    "baker.training.setup": (
        "baker.training",
        "baker.training.model",
        "baker.training.data",
        "baker.training.devices",
        "baker.trajectories",
        "baker.config",
    ),
    "baker.training.run": (
        "baker.training",
        "baker.training.setup",
        "baker.training.model",
        "baker.training.data",
        "baker.training.devices",
        "baker.trajectories",
        "baker.adapters",
        "baker.config",
        "baker.storage",
    ),
    "baker.versions": ("baker.repos", "baker.history", "baker.adapters", "baker.config", "baker.storage"),
    "baker.transfer": (
        "baker.adapters",
        "baker.config",
        "baker.history",
        "baker.repos",
        "baker.storage",
        "baker.versions",
    ),
    "baker.jobs": (
        "baker.history",
        "baker.merging",
        "baker.questions",
        "baker.trajectories",
        "baker.training",
        "baker.versions",
        "baker.repos",
        "baker.config",
        "baker.storage",
    ),
    "gateway": (
        "gateway.access",
        "gateway.cli",
        "gateway.engine",
        "gateway.http",
        "gateway.inference",
        "gateway.observability",
        "gateway.routes",
        "gateway.routes.bread",
        "gateway.routes.history",
        "gateway.serving",
        "gateway.engine.core",
        # `config` takes msgspec's messages apart with the function that bakes' settings use.
        "baker.config",
        "baker.adapters",
        "baker.comparison",
        "baker.history",
        "baker.jobs",
        "baker.merging",
        "baker.repos",
        "baker.storage",
        "baker.transfer",
        "baker.versions",
    ),
    "gateway.protocol": (),
    "gateway.engine.worker": (),
    "gateway.engine.patches": (),
    "gateway.engine.adapters": ("baker.adapters",),
    # The canary names an adapter's weights file.
    "gateway.engine.core": (
        "gateway.engine.adapters",
        "gateway.engine.patches",
        "gateway.engine.worker",
        "baker.adapters",
    ),
    "gateway.engine.requests": (
        "gateway.engine.core",
        "gateway.engine.adapters",
        "gateway.engine.patches",
        "gateway.protocol",
    ),
    # The engine's face.
    "gateway.engine": ("gateway.engine.core", "gateway.engine.requests", "gateway.protocol"),
    "gateway.http": ("gateway.protocol", "baker.config"),
    "gateway.access": ("baker.repos", "baker.storage", "baker.versions"),
    "gateway.cli": (),
    # The verbs of `bread`; `gateway/cli/commands.py` imports them by name when they run.
    "gateway.cli.baking": ("gateway.cli",),
    "gateway.cli.history": ("gateway.cli",),
    "gateway.cli.merging": ("gateway.cli", "gateway.cli.baking", "gateway.cli.history"),
    "gateway.cli.remotes": ("gateway.cli",),
    "gateway.cli.service": ("gateway.cli",),
    "gateway.serving": (
        "gateway.engine",
        "baker.adapters",
        "baker.history",
        "baker.repos",
        "baker.storage",
        "baker.transfer",
        "baker.versions",
    ),
    "gateway.inference": (
        "gateway.http",
        "gateway.access",
        "gateway.engine",
        "gateway.engine.core",
        "gateway.engine.requests",
        "gateway.serving",
        "gateway.protocol",
    ),
    "gateway.observability": (
        "gateway.engine.core",
        "baker.repos",
        "baker.storage",
    ),
    "gateway.routes": (
        "gateway.observability",
        "gateway.serving",
        "gateway.access",
        "gateway.http",
        "gateway.protocol",
        "gateway.engine.requests",
        # Who asked, for the log of operations.
        "baker.history",
        "baker.repos",
        "baker.storage",
    ),
    "gateway.routes.bread": (
        "gateway.http",
        "gateway.protocol",
        "gateway.routes",
        "baker.config",
        "baker.repos",
        "baker.storage",
        "baker.versions",
    ),
    "gateway.routes.history": (
        "gateway.http",
        "gateway.protocol",
        "gateway.routes",
        "baker.comparison",
        "baker.history",
        "baker.merging",
        "baker.repos",
        "baker.transfer",
        "baker.versions",
    ),
}
"""Room -> the rooms that it may import, besides itself and the ground floors."""

GROUND_FLOORS: dict[str, tuple[str, ...]] = {
    "baker": (
        "conversation",
        "divergence",
        "errors",
        "free_memory",
        "merge_report",
        "model_names",
        "names",
        "pattern_process",
        "pattern_search",
        "ports",
        "question_templates",
        "status",
        "suggestions",
        "types",
    ),
    "gateway": ("config", "errors", "services"),
}
"""Modules that every room may import. Those of the gateway import rooms too (`services` names the owners of things)."""

ONLY_IN: dict[str, tuple[str, ...]] = {
    # One third-party giant, one place: an upgrade is then a diff of that place.
    "vllm": ("gateway/engine/",),
    "peft": ("baker/training/model/lora",),
    "sqlite_utils": ("baker/storage/",),
    "anthropic": ("baker/questions/writers.py",),
    "datasets": ("baker/questions/datasets.py",),
    "pyarrow": ("baker/questions/dataset_files.py",),
    "wandb": ("baker/training/run/metrics.py",),
    "matplotlib": ("baker/training/run/curves.py",),
    "litestar": ("gateway/app.py", "gateway/http/", "gateway/inference/", "gateway/routes/"),
    "uvicorn": ("gateway/server.py", "gateway/http/connections.py"),
    "transformers": (
        "baker/training/model/",
        "baker/training/devices/parallel.py",
        "gateway/serving/embedded_model.py",
    ),
    "torch": (
        "baker/training/run/",
        "baker/training/setup/",
        "baker/training/model/",
        "baker/training/data/",
        "baker/training/devices/",
        "gateway/serving/embedded_model.py",
        "gateway/engine/",
    ),
    "prompt_toolkit": ("chat_with_model.py",),
    "rich": ("gateway/cli/",),
    "click": ("gateway/cli/",),
}
NEVER: dict[str, tuple[str, ...]] = {
    "baker/": ("gateway",),
    "chat_with_model.py": ("gateway", "baker"),
    # A client of the HTTP API.
    "gateway/cli/baking/": ("baker",),
    "gateway/cli/history/": ("baker",),
    "gateway/cli/remotes/": ("baker",),
    "gateway/cli/service/": ("baker",),
    "example_bake_gavin_belson.py": ("gateway", "baker"),
}
LIGHT = (
    "gateway.cli.users",
    "gateway.cli.commands",
    "gateway.protocol.requests",
    "gateway.protocol.responses",
    "gateway.config",
    "baker.jobs.queue",
    "baker.jobs.stages",
    "baker.training.launcher",
)
HEAVY = ("torch", "vllm", "transformers", "peft", "datasets")


def sources() -> list[str]:
    files = [*ROOT.glob("baker/**/*.py"), *ROOT.glob("gateway/**/*.py"), *ROOT.glob("*.py")]
    return sorted(path.relative_to(ROOT).as_posix() for path in files)


@cache
def imported(source: str) -> tuple[str, ...]:
    """What the module imports, anywhere in it: modules, and the names that it takes from them."""
    names: list[str] = []
    for node in ast.walk(ast.parse((ROOT / source).read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source} imports relatively"
            names.append(node.module or "")
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


def module_of(source: str) -> str:
    return source.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def modules() -> Mapping[str, str]:
    """Module -> its file, for all of `baker` and `gateway`."""
    return {module_of(source): source for source in sources() if source.startswith(("baker/", "gateway/"))}


@cache
def room_of(module: str) -> str:
    """The folder that the module is in, as a module name; a package's `__init__` belongs to the package itself."""
    return module if modules()[module].endswith("/__init__.py") else module.rpartition(".")[0]


def arrows(package: str) -> Iterator[tuple[str, str]]:
    """(module, imported module) within `package`, each once."""
    for module, source in modules().items():
        if is_of(module, package):
            needed = {name for name in imported(source) if name in modules() and is_of(name, package)}
            # `from room import module` names the room too, which is empty.
            packages = {name for name in needed if modules()[name].endswith("/__init__.py")}
            empty = {name for name in packages if not (ROOT / modules()[name]).read_text().strip()}
            yield from ((module, name) for name in sorted(needed - empty - {module}))


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The nodes of one circle in order; empty if there is none."""
    done: set[str] = set()
    for start in graph:
        path: list[str] = []
        walk: list[tuple[str, Iterator[str]]] = [(start, iter(sorted(graph.get(start, ()))))]
        path.append(start)
        while walk:
            node, following = walk[-1]
            child = next((other for other in following if other not in done), None)
            if child is None:
                done.add(node)
                path.pop()
                walk.pop()
            elif child in path:
                return [*path[path.index(child) :], child]
            else:
                path.append(child)
                walk.append((child, iter(sorted(graph.get(child, ())))))
    return []


def graph_of(pairs: Iterator[tuple[str, str]]) -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for source, needed in pairs:
        if source != needed:
            graph.setdefault(source, set()).add(needed)
    return graph


def floors(graph: Mapping[str, set[str]]) -> int:
    """Length of the longest chain of imports, in modules. The graph has no circle."""

    @cache
    def height(node: str) -> int:
        return 1 + max((height(other) for other in graph.get(node, ())), default=0)

    return max(map(height, [*graph]), default=0)


def is_of(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def is_on_ground_floor(module: str) -> bool:
    package, _, name = module.partition(".")
    return name in GROUND_FLOORS[package] or module in GROUND_FLOORS


@pytest.mark.parametrize("source", sources())
def test_third_party_giants_and_scripts_stay_in_their_places(source: str) -> None:
    for module in imported(source):
        for package, places in ONLY_IN.items():
            if is_of(module, package):
                assert source.startswith(places), f"{source} imports {module}, which belongs in {places}"
        for place, forbidden in NEVER.items():
            if source.startswith(place):
                assert not any(is_of(module, package) for package in forbidden), f"{source} imports {module}"


@pytest.mark.parametrize("room", sorted({room_of(module) for module in modules()}))
def test_a_room_imports_only_rooms_that_the_table_allows(room: str) -> None:
    assert room in ARROWS, f"{room} is a new room: give it a line in ARROWS"
    allowed = {room, *ARROWS[room]}
    for module, needed in chain(arrows("baker"), arrows("gateway"), between_packages()):
        if room_of(module) == room and not is_on_ground_floor(needed):
            assert room_of(needed) in allowed, f"{module} imports {needed}: {room} may import {sorted(ARROWS[room])}"


def between_packages() -> Iterator[tuple[str, str]]:
    """(module of the gateway, module of the baker that it imports)."""
    for module, source in modules().items():
        if is_of(module, "gateway"):
            for name in sorted(set(imported(source))):
                if name in modules() and is_of(name, "baker") and not modules()[name].endswith("/__init__.py"):
                    yield module, name


def test_the_table_has_no_line_without_an_arrow() -> None:
    real = {
        (room_of(module), room_of(needed))
        for module, needed in chain(arrows("baker"), arrows("gateway"), between_packages())
    }
    unused = [f"{room} -> {needed}" for room, rooms in ARROWS.items() for needed in rooms if (room, needed) not in real]
    assert not unused, "remove these arrows from the table"


@pytest.mark.parametrize("package", ["baker", "gateway"])
def test_no_files_import_each_other_in_a_circle(package: str) -> None:
    assert circle(graph_of(arrows(package))) == []


@pytest.mark.parametrize("package", ["baker", "gateway"])
def test_no_rooms_import_each_other_in_a_circle(package: str) -> None:
    rooms = ((room_of(module), room_of(needed)) for module, needed in arrows(package))
    # The package's own modules are its ground floor and its wiring, not a room.
    assert circle(graph_of((room, needed) for room, needed in rooms if package not in (room, needed))) == []


@pytest.mark.parametrize("module", LIGHT)
def test_importing_it_loads_no_model_code(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def report() -> str:
    """Modules, rooms, floors and arrows of each package; rooms are counted without the package's ground floor."""
    lines = []
    for package in ("baker", "gateway"):
        files = graph_of(arrows(package))
        count = sum(is_of(module, package) and not _is_empty(module) for module in modules())
        pairs = {(room_of(a), room_of(b)) for a, others in files.items() for b in others}
        between = {(a, b) for a, b in pairs if a != b and package not in (a, b)}
        rooms = {room_of(module) for module in modules() if is_of(module, package)} - {package}
        lines.append(
            f"{package}: {count} modules on {_floors(files)} floors with {sum(map(len, files.values()))} arrows; "
            f"{len(rooms)} rooms on {_floors(graph_of(iter(between)))} floors with {len(between)} arrows"
        )
    return "\n".join(lines)


def _floors(graph: Mapping[str, set[str]]) -> str:
    return "circular" if circle(graph) else str(floors(graph))


def _is_empty(module: str) -> bool:
    return not (ROOT / modules()[module]).read_text().strip()


if __name__ == "__main__":
    print(report())  # noqa: T201
