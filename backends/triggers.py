"""Triggers: reasons to start a run, each with a name, so that a run is started once for each of them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import obstore

from kfp_lifecycle.backends.backend import Backend, BackendError, RunSummary
from kfp_lifecycle.backends.uploads import STORE_ERRORS, credentials_of, reason_of
from kfp_lifecycle.config.data import Source, scheme_of
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.connections.buckets import store_of
from kfp_lifecycle.data.source_version import local_source, source_path, source_version

OBJECT_STORES = ("s3", "gs")
LONGEST_NAME = 24


@dataclass(frozen=True)
class Reason:
    """Why a run is to be started."""

    name: str
    """The run's name: that of the same reason is the same."""
    sentence: str


def new_data(pipeline: str, source: Source, project: Path, version: str = "") -> Reason:
    """The data that is there now.

    Args:
        pipeline: What is run of it.
        source: Where the data is.
        project: The project's folder, which relative files are named from.
        version: What whoever knows it calls this version of the data; by default it is found out.

    Raises:
        ConfigurationError: nothing short of reading the source would tell its version.
        BackendError: an object store cannot be listed.
    """
    found = _plain(version) if version else version_of(source, project)
    return Reason(f"{pipeline}-of-data-{found}", f"the source is of version {version or found}")


def version_of(source: Source, project: Path) -> str:
    """Version of a source: of its files' sizes and times, of its objects' ETags.

    Raises:
        ConfigurationError: a place of it tells no version, as a database; or it is not there.
        BackendError: an object store cannot be listed.
    """
    places = {connection.url for connection in source.places().values()}
    if not any(scheme_of(url) in OBJECT_STORES for url in places):
        here = local_source(source, project)
        version = "" if _missing(here) else source_version(here)
        if not version:
            raise ConfigurationError(
                f"no version can be told of {', '.join(sorted(map(_shown, places)))} without reading it, or it is not "
                "there: name the version that is there with --version, as the system knows it that brings the data"
            )
        return version
    lines = []
    for url in sorted(places):
        if scheme_of(url) not in OBJECT_STORES:
            raise ConfigurationError(
                f"no version can be told of {_shown(url)} beside an object store: name it with --version"
            )
        lines += _objects(url)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def _missing(source: Source) -> bool:
    paths = (source_path(connection.url) for connection in source.places().values())
    return any(path is not None and not path.exists() for path in paths)


def _shown(url: str) -> str:
    """A place without what grants access to it."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}"


def _objects(url: str) -> list[str]:
    """Each object below a URL, with what changes when its content does."""
    # What a pattern names is below the folder that it begins with.
    folder = re.split(r"/[^/]*[*?\[]", url, maxsplit=1)[0]
    try:
        store, prefix = store_of(folder)
        found = [item for page in obstore.list(store, prefix=prefix or None) for item in page]
        if not found:
            # It may be one object, and not a folder of some.
            found = [obstore.head(store, prefix)]
    except FileNotFoundError:
        raise BackendError(f"there is nothing at {_shown(url)}: see source.url") from None
    except STORE_ERRORS as error:
        raise BackendError(
            f"{_shown(url)} cannot be listed ({reason_of(error)}): see that this machine has its credentials: "
            f"{credentials_of(url)}."
        ) from error
    return sorted(f"{folder} {item['path']} {item['size']} {item['e_tag'] or item['last_modified']}" for item in found)


def _plain(version: str) -> str:
    """A version as part of a name that every target takes."""
    if re.fullmatch(rf"[a-z0-9-]{{1,{LONGEST_NAME}}}", version):
        return version
    return hashlib.sha256(version.encode()).hexdigest()[:12]


def started_before(backend: Backend, project: str, reason: Reason) -> RunSummary | None:
    """The newest run that was started for a reason."""
    runs = [run for run in backend.runs_named(reason.name) if run.name == reason.name and run.project == project]
    return runs[0] if runs else None
