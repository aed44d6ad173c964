"""Rooms of the library: an import only points down, and no two rooms import each other."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from kfp_lifecycle.runtime.closure import PACKAGE, ROOT

# From the ground up. A room may import those before it.
FLOORS = (
    "config",
    "runtime",
    "artifacts",
    "environments",
    "connections",
    "audit",
    "data",
    "uncertainty",
    "registry",
    "features",
    "reports",
    "modelling",
    "tuning",
    "serving",
    "serving.server",
    "serving.collector",
    "serving.release",
    "serving.release.local",
    "serving.release.kserve",
    "serving.release.vertex",
    "monitoring",
    "governance",
    "components",
    "compilation",
    "pipelines",
    "simulation",
    "local",
    "backends",
    "projects",
    "cli",
)


def room_of(module: str) -> str:
    """The room of a module: the longest of the floors' names that it begins with; a component is a room of its own."""
    parts = module.split(".")[1:]
    if parts[0] == "components" and len(parts) > 3:
        return ".".join(parts[:3])
    found = [room for room in FLOORS if parts[: room.count(".") + 1] == room.split(".")]
    # The package itself, and the script at its top, are above all rooms.
    return max(found, key=len) if found else "cli"


def _imports() -> Iterator[tuple[str, str]]:
    for top in sorted({room.split(".")[0] for room in FLOORS}):
        for file in sorted((ROOT / top).rglob("*.py")):
            importer = ".".join([PACKAGE, *file.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
                    for alias in node.names:
                        module = f"{node.module}.{alias.name}"
                        yield importer, module if is_module(module) else str(node.module)
                elif isinstance(node, ast.Import):
                    yield from ((importer, alias.name) for alias in node.names if alias.name.startswith(f"{PACKAGE}."))


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split(".")[1:])
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def floor(room: str) -> int:
    return FLOORS.index("components" if room.startswith("components") else room)


@functools.cache
def imports() -> list[tuple[str, str]]:
    """Every import of one module of the library by another, each once."""
    return sorted(set(_imports()))


def test_every_folder_of_code_is_a_room_with_a_floor() -> None:
    tops = {place.parent.name for place in ROOT.glob("*/__init__.py")} - {"benchmarks", "demo", "src"}
    assert tops == {room.split(".")[0] for room in FLOORS}


def test_no_import_points_up() -> None:
    up = [
        f"{importer} → {imported}"
        for importer, imported in imports()
        if floor(room_of(importer)) < floor(room_of(imported))
    ]
    assert up == []


def test_a_component_imports_no_module_of_another_component() -> None:
    strangers = [
        f"{importer} → {imported}"
        for importer, imported in imports()
        if room_of(importer).startswith("components.") and room_of(imported).startswith("components.")
        if room_of(importer) != room_of(imported)
    ]
    assert strangers == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    below: dict[str, set[str]] = {}
    for importer, imported in imports():
        below.setdefault(importer, set()).add(imported)
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join([*path[path.index(module) :], module])
        if module in done:
            return
        for imported in sorted(below.get(module, ())):
            walk(imported, (*path, module))
        done.add(module)

    for module in sorted(below):
        walk(module, ())


def test_a_steps_code_is_imported_by_the_step_alone() -> None:
    """What runs in a step is below what compiles it: nothing in a component's folder knows of pipelines or targets."""
    compiling = {"compilation", "pipelines", "local", "cli"}
    knowing = [
        f"{importer} → {imported}"
        for importer, imported in imports()
        if importer.startswith(f"{PACKAGE}.components.") and room_of(imported) in compiling
    ]
    assert knowing == []
    assert Path(ROOT / "components").is_dir()
