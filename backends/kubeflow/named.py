"""What a Kubeflow keeps by name: experiment, pipelines and their versions, made where they are missing and once."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import kfp

from kfp_lifecycle.backends.backend import BackendError, NotThere
from kfp_lifecycle.backends.kubeflow.api import KubeflowApi
from kfp_lifecycle.config.targets import KubeflowTarget

T = TypeVar("T")


@dataclass(frozen=True)
class Claim:
    """A version of a pipeline that has the name of a run to be made: one of several who make it gets it."""

    pipeline_id: str
    version_id: str
    holder: str
    """Who got it."""


class Named:
    """Experiment and pipelines of a project.

    Args:
        api: The Kubeflow.
        target: What the project says of it.
        project: The project's name.
    """

    def __init__(self, api: KubeflowApi, target: KubeflowTarget, project: str) -> None:
        self._api, self._target, self._project = api, target, project
        self._namespace = target.namespace
        # By id: none of it changes.
        self._pipelines: dict[str, str] = {}
        self._specifications: dict[str, Mapping[str, Any]] = {}

    def experiment(self) -> str:
        """Id of the experiment that runs are grouped in, which is made where there is none."""
        name = self._target.experiment or self._project

        def make(client: kfp.Client) -> str:
            # It gives the one that is there.
            return str(client.create_experiment(name, namespace=self._namespace or None).experiment_id)

        return self.once(f"make the experiment {name}", make, make)

    def version(self, pipeline: str, file: Path) -> tuple[str, str]:
        """Ids of a pipeline and of the version that is this file, both made where they are not there."""
        name = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        pipeline_id = self._pipeline(pipeline, file)
        version = self._api.ask("look for the pipeline's version", partial(_version, pipeline_id, name))
        version = version or self._new_version(pipeline_id, name, file)
        return pipeline_id, str(version.pipeline_version_id)

    def claim(self, pipeline: str, name: str, file: Path, holder: str) -> Claim:
        """Claim the name of a run. Names of runs are not unique, those of a pipeline's versions are.

        Args:
            pipeline: The pipeline, which is made where it is not there.
            name: The run's name.
            file: The compiled pipeline.
            holder: Who claims it.
        """
        pipeline_id = self._pipeline(pipeline, file)
        version = self._new_version(pipeline_id, name, file, description=holder)
        return Claim(pipeline_id, version.pipeline_version_id, version.description or "")

    def withdraw(self, claim: Claim) -> None:
        """Take a claim from who holds it: no run can be made of it any more."""
        with contextlib.suppress(NotThere):
            self._api.ask(
                "take back a version of the pipeline",
                lambda client: client.delete_pipeline_version(claim.pipeline_id, claim.version_id),
            )

    def _pipeline(self, name: str, file: Path) -> str:
        """Id of a pipeline, which is made where it is not there."""

        def look(client: kfp.Client) -> Any:
            # The client's own way to ask for an id knows no namespace.
            asked = equals("display_name", name)
            found = client.list_pipelines(page_size=1, filter=asked, namespace=self._namespace or None).pipelines
            return found[0] if found else None

        found = self._api.ask("look for the pipeline", look) or self.once(
            f"make the pipeline {name}",
            lambda client: client.upload_pipeline(str(file), name, namespace=self._namespace or None),
            look,
        )
        return str(found.pipeline_id)

    def _new_version(self, pipeline_id: str, name: str, file: Path, description: str | None = None) -> Any:
        """A version of a pipeline, or the one that has its name."""
        return self.once(
            f"make version {name} of a pipeline",
            lambda client: client.upload_pipeline_version(
                str(file), name, pipeline_id=pipeline_id, description=description
            ),
            partial(_version, pipeline_id, name),
        )

    def once(self, what: str, make: Callable[[kfp.Client], T], look: Callable[[kfp.Client], T | None]) -> T:
        """Make something that has a name; where it was made meanwhile, or before a connection was cut, take that."""
        try:
            return self._api.ask(what, make, repeat=False)
        except BackendError:
            found = self._api.ask(what, look)
            if found is None:
                raise
            return found

    def pipeline(self, identity: str) -> str:
        """What this library calls a pipeline: `training` for `churn-training`; empty where it is gone."""
        if identity not in self._pipelines:
            try:
                found = self._api.ask("read the run's pipeline", lambda client: client.get_pipeline(identity))
                self._pipelines[identity] = found.display_name.removeprefix(f"{self._project}-")
            except NotThere:
                self._pipelines[identity] = ""
        return self._pipelines[identity]

    def specification(self, reference: Any) -> Mapping[str, Any]:
        """The compiled pipeline that a version is.

        Raises:
            NotThere: it was deleted.
        """
        identity = reference.pipeline_version_id
        if identity not in self._specifications:
            self._specifications[identity] = self._api.ask(
                "read the run's pipeline",
                lambda client: client.get_pipeline_version(reference.pipeline_id, identity),
            ).pipeline_spec
        return self._specifications[identity]


def _version(pipeline_id: str, name: str, client: kfp.Client) -> Any:
    asked = equals("display_name", name)
    found = client.list_pipeline_versions(pipeline_id, page_size=1, filter=asked).pipeline_versions
    return found[0] if found else None


def predicate(operation: str, key: str, value: str) -> str:
    """A filter of a list: one condition on one field."""
    return json.dumps({"predicates": [{"operation": operation, "key": key, "stringValue": value}]})


def equals(key: str, value: str) -> str:
    """A filter of a list: what a field is."""
    return predicate("EQUALS", key, value)
