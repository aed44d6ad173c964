"""Where the URL of a source leads on this machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path, PurePosixPath

from kfp_lifecycle.config.data import scheme_of
from kfp_lifecycle.runtime.contract import ContractViolation


def locate(url: str) -> Path:
    """The file or folder on this machine that a URL names (for `file:` RFC 8089; a database's path may be relative).

    Args:
        url: One with a scheme, or a path in the current folder.

    Raises:
        ContractViolation: the path is empty or climbs out with `..`, or there is no such Python package.
    """
    scheme, rest = scheme_of(url), url.partition("://")[2]
    if "://" not in url:
        folder, name = Path(), url
    elif scheme == "package":
        package, _, name = rest.partition("/")
        folder = _package_folder(package, url)
    else:
        host, _, name = rest.partition("/")
        if host:
            raise ContractViolation(
                f"{url} names the host {host}; write three slashes before a path on this machine: {scheme}:///{rest}"
            )
        folder = Path("/") if scheme == "file" else Path()
    path = PurePosixPath(name)
    if not path.parts or ".." in path.parts or (scheme == "package" and path.is_absolute()):
        raise ContractViolation(
            f"{url} must name a file or folder, without `..`. Write the path in full: {scheme}:///…"
        )
    return folder / path


def _package_folder(package: str, url: str) -> Path:
    # Found without importing it: a package is wanted for its file, and its code need not run for that.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ContractViolation(
            f"{url} names the Python package {package!r}, which is not installed here. Add it to "
            "environments/validation.in, or correct the name."
        )
    return Path(next(iter(spec.submodule_search_locations)))
