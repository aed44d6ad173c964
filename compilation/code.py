"""Code of steps: its closure for one step, its archive for an environment, its digest for the whole library."""

from __future__ import annotations

import ast
import hashlib
import inspect
import io
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from kfp_lifecycle.environments.locks import HERE as LOCKS
from kfp_lifecycle.environments.locks import lock_digest
from kfp_lifecycle.runtime.closure import PACKAGE, ROOT, bare, imported_names, module_closure
from kfp_lifecycle.runtime.component import LOCATIONS, SETTINGS, LifecycleComponent
from kfp_lifecycle.runtime.executor import SECRET_MANAGER

EXECUTOR = "kfp_lifecycle.runtime.executor"
# The server that a model folder carries is installed from this lock where its image lacks it.
SERVING_LOCK = f"{PACKAGE}/environments/serving.txt"
# The reference project's own.
PROJECT = ("feature_repo", "expectations")
# No part of what steps run.
OUTSIDE = ("tests", "benchmarks", "demo", "deploy", "docs", "examples", "build", "dist", "src", *PROJECT)
SUFFIXES = {".py", ".j2", ".css", ".sql", ".yaml", ".txt"}
# Zip files know no time before this one.
EPOCH = (1980, 1, 1, 0, 0, 0)


def code_of(component: LifecycleComponent, *, with_secret_manager: bool = True) -> dict[str, bytes]:
    """All that one step runs of the library, content by path: its module and what that imports, without comments and
    docstrings, so that the same code is the same bytes."""
    # Of what is imported by name no closure knows.
    roots = [component.module, EXECUTOR, *component.carries]
    roots += [SECRET_MANAGER] if with_secret_manager else []
    roots += [SETTINGS] if component.reads else []
    roots += [LOCATIONS] if component.locations else []
    own: dict[str, bytes] = {}
    if not component.module.startswith(f"{PACKAGE}."):
        # Somebody else's component brings its one module along.
        content = bare(Path(inspect.getfile(component.function)).read_bytes())
        own[f"{component.module.replace('.', '/')}.py"] = content
        roots += imported_names(ast.parse(content))
    files = own | module_closure(roots)
    if "serving" in component.carries_locks:
        files[SERVING_LOCK] = (LOCKS / "serving.txt").read_bytes()
    return files


def environment_archive(environment: str, components: Iterable[LifecycleComponent]) -> dict[str, bytes]:
    """The files of an environment's code archive: the code of its components, its lock, and the program that starts
    a step (`runtime.archive`)."""
    files: dict[str, bytes] = {}
    for component in components:
        if component.environment == environment:
            files |= code_of(component)
    return files | _start(environment, ("bootstrap", environment, "kfp"))


def standalone_archive(component: LifecycleComponent, *, with_secret_manager: bool) -> dict[str, bytes]:
    """The files of one component's own archive, which needs nothing but Python, kfp and the lock of its own name, if
    there is one. It rides in the container, so that it has what reads Secret Manager only where there are references
    to resolve."""
    own = component.name if (LOCKS / f"{component.name}.txt").is_file() else "kfp"
    return code_of(component, with_secret_manager=with_secret_manager) | _start(own, dict.fromkeys((own, "kfp")))


def _start(environment: str, locks: Iterable[str]) -> dict[str, bytes]:
    files = {f"locks/{name}.txt": (LOCKS / f"{name}.txt").read_bytes() for name in locks}
    files["locks/ENVIRONMENT"] = f"{environment}-{lock_digest(environment)}\n".encode()
    files["__main__.py"] = bare((ROOT / "runtime" / "archive.py").read_bytes())
    return files


def digest_of(files: Mapping[str, bytes]) -> str:
    """SHA-256 of paths and contents, 64 hexadecimal digits: the same files have the same one, however they are
    packed."""
    digest = hashlib.sha256()
    for path, content in sorted(files.items()):
        for part in (path.encode(), content):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip file, not compressed: the same files give the same bytes, whichever zlib is here."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path, content in sorted(files.items()):
            member = zipfile.ZipInfo(path, EPOCH)
            member.external_attr = 0o644 << 16
            archive.writestr(member, content)
    return packed.getvalue()


def write_folder(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files below a content-addressed folder; what is there already, or somebody else writes now, is the same."""
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        unfinished = Path(temporary) / folder.name
        for path, content in files.items():
            file = unfinished / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def keep_code(files: Mapping[str, bytes], state: Path) -> str:
    """Write a step's code into the state folder, where a local run imports it from.

    Returns:
        Its digest, by which it is found there.
    """
    digest = digest_of(files)[:12]
    write_folder(files, state / "code" / digest)
    return digest


def library_digest() -> str:
    """Digest of all code that an image of the library holds, the first 12 hexadecimal digits."""
    files = {
        f"{PACKAGE}/{file.relative_to(ROOT).as_posix()}": bare(file.read_bytes())
        if file.suffix == ".py"
        else file.read_bytes()
        for file in library_files()
    }
    return digest_of(files)[:12]


def library_files() -> list[Path]:
    """The files of the library that steps may run, in the order of their paths."""
    tops = [place for place in ROOT.iterdir() if place.name not in OUTSIDE and not place.name.startswith(".")]
    found = [file for top in tops if top.is_dir() for file in top.rglob("*") if file.suffix in SUFFIXES]
    return sorted([ROOT / "__init__.py", *found])
