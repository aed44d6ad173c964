"""Import closure: the modules of this library that some of its modules import, and all that those import."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "kfp_lifecycle"

# A module's templates and style sheets stand beside it and travel with it.
DATA_SUFFIXES = (".j2", ".css")


# A string, which may hold what looks like a comment, or a comment.
STRING_OR_COMMENT = re.compile(
    rb"""(?s:'''(?:[^\\]|\\.)*?'''|\"{3}(?:[^\\]|\\.)*?\"{3}|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")"""
    rb"""|(?P<comment>[ \t]*\#[^\n]*)"""
)


def imported_names(tree: ast.AST) -> set[str]:
    """Dotted names that code imports anywhere in it: `import a.b` gives `a.b`, `from a import b` gives `a.b`.

    What is imported for type checkers only is imported by nothing that runs.
    """
    names: set[str] = set()
    for node in _statements(tree, for_type_checkers=False):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _statements(tree: ast.AST, *, for_type_checkers: bool) -> Iterator[ast.AST]:
    """The statements of a module at every depth, and none of their expressions, which are nine of ten nodes."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        typing = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        parts = (
            ("orelse",) if typing and not for_type_checkers else ("body", "orelse", "finalbody", "handlers", "cases")
        )
        for part in parts:
            below = getattr(node, part, None)
            if isinstance(below, list):
                waiting += below


def bare(content: bytes) -> bytes:
    """A module without its comments and docstrings, which are for readers of the repository; every line keeps its
    number.

    So a digest of code changes when the code does.
    """
    return _read(content)[0]


@functools.cache
def _read(content: bytes) -> tuple[bytes, frozenset[str]]:
    """A module without comments and docstrings, and what it imports. Most travel with several components: each is read
    once."""
    content = STRING_OR_COMMENT.sub(lambda found: b"" if found["comment"] else found[0], content)
    lines = content.splitlines(keepends=True)
    tree = ast.parse(content)
    for node in _statements(tree, for_type_checkers=True):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
            # Columns are counted in bytes.
            before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
            # An empty string remains, so that a body of nothing else is still one.
            lines[first : last + 1] = [before + b'""' + after, *[b"\n"] * (last - first)]
    return b"".join(lines), frozenset(imported_names(tree))


@functools.cache
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
    found: dict[Path, bytes] = {}
    waiting = list(names)
    while waiting:
        file = module_file(waiting.pop(), root)
        if file is None or file in found:
            continue
        found[file], imported = _read(file.read_bytes())
        waiting += imported
        found |= {beside: beside.read_bytes() for beside in _beside(file.parent, root) if beside not in found}
    return dict(sorted((_place(file, root), content) for file, content in found.items()))


@functools.cache
def _beside(folder: Path, root: Path) -> list[Path]:
    """What travels with each module of a package: its templates, and what makes it and those above it packages."""
    initials = [place / "__init__.py" for place in (folder, *folder.parents) if place.is_relative_to(root)]
    data = [file for file in folder.iterdir() if file.suffix in DATA_SUFFIXES]
    return [*data, *(initial for initial in initials if initial.is_file())]


@functools.cache
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
