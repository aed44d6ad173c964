"""Import closure: the modules of this library that some of its modules import, and all that those import."""

from __future__ import annotations

import ast
import functools
import io
import tokenize
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "kfp_lifecycle"

# A module's templates and style sheets stand beside it and travel with it.
DATA_SUFFIXES = (".j2", ".css")


def imported_names(tree: ast.AST) -> set[str]:
    """Dotted names that code imports anywhere in it: `import a.b` gives `a.b`, `from a import b` gives `a.b`.

    What is imported for type checkers only is imported by nothing that runs.
    """
    names: set[str] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        unseen = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        waiting += node.orelse if unseen else ast.iter_child_nodes(node)  # type: ignore[attr-defined]
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@functools.cache
def _imported_by(content: bytes) -> frozenset[str]:
    """Most modules travel with several components: each is read once."""
    return frozenset(imported_names(ast.parse(content)))


@functools.cache
def bare(content: bytes) -> bytes:
    """A module without its comments and docstrings, which are for readers of the repository; every line keeps its
    number.

    So a digest of code changes when the code does.
    """
    lines = content.decode("utf-8").splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(content.decode("utf-8")).readline):
        if token.type == tokenize.COMMENT:
            number, column = token.start
            lines[number - 1] = lines[number - 1][:column].rstrip() + "\n"
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
            # Columns are counted in bytes.
            before = lines[first].encode("utf-8")[: node.col_offset].decode("utf-8")
            after = lines[last].encode("utf-8")[node.end_col_offset :].decode("utf-8")
            # An empty string remains, so that a body of nothing else is still one.
            lines[first : last + 1] = [f'{before}""{after}', *["\n"] * (last - first)]
    return "".join(lines).encode("utf-8")


def module_file(name: str, root: Path = ROOT) -> Path | None:
    """The file of a first-party module; for `package.module.attribute` that of the module; None for a library."""
    package, *parts = name.split(".")
    if package != PACKAGE:
        return None
    while parts:
        place = root.joinpath(*parts)
        if place.with_suffix(".py").is_file():
            return place.with_suffix(".py")
        if (place / "__init__.py").is_file():
            return place / "__init__.py"
        parts.pop()
    return root / "__init__.py"


def module_closure(names: Iterable[str], root: Path = ROOT) -> dict[str, bytes]:
    """First-party modules behind dotted names with all they import, their packages, and the templates beside them.

    Comments and docstrings stay behind.

    Args:
        names: Dotted names; those of libraries are passed over.
        root: The folder of the library.

    Returns:
        Each file's content by its path as it is imported, `kfp_lifecycle/…`, sorted by path.
    """
    files: dict[str, bytes] = {}
    waiting = list(names)
    while waiting:
        file = module_file(waiting.pop(), root)
        if file is None or _place(file, root) in files:
            continue
        content = bare(file.read_bytes())
        files[_place(file, root)] = content
        waiting += _imported_by(content)
        for beside in file.parent.iterdir():
            if beside.suffix in DATA_SUFFIXES:
                files[_place(beside, root)] = beside.read_bytes()
        for package in file.relative_to(root).parents:
            initial = root / package / "__init__.py"
            if initial.is_file():
                files[_place(initial, root)] = initial.read_bytes()
    return dict(sorted(files.items()))


def _place(file: Path, root: Path) -> str:
    """Where a file of the library stands in what is imported."""
    return f"{PACKAGE}/{file.relative_to(root).as_posix()}"


def copy_modules(names: Iterable[str], destination: Path) -> None:
    """Write first-party modules and all they import below `destination`, importable from there.

    Args:
        names: Dotted names of modules, such as `kfp_lifecycle.serving.server.server`; inside a step, part of its code.
        destination: Folder to write to; made when absent.

    Raises:
        ModuleNotFoundError: a name is no first-party module here.
    """
    for name in names:
        if module_file(name) is None:
            raise ModuleNotFoundError(f"{name} is not part of this step's code")
    for path, content in module_closure(names).items():
        file = destination / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
