"""What a Kubeflow keeps by name: experiment, pipelines and their versions, made where they are missing and once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import kfp

from kfp_lifecycle.backends.backend import BackendError, NotThere
from kfp_lifecycle.backends.kubeflow.api import KubeflowApi
from kfp_lifecycle.config.targets import KubeflowTarget


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
        return self._api.ask(
            f"make the experiment {name}",
            # It gives the one that is there.
            lambda client: str(client.create_experiment(name, namespace=self._namespace or None).experiment_id),
        )

    def version(self, pipeline: str, file: Path) -> tuple[str, str]:
        """Ids of a pipeline and of the version that is this file, both made where they are not there."""
        version = hashlib.sha256(file.read_bytes()).hexdigest()[:12]

        def existing_pipeline(client: kfp.Client) -> str | None:
            # The client's own way to ask for an id knows no namespace.
            asked = equals("display_name", pipeline)
            found = client.list_pipelines(page_size=1, filter=asked, namespace=self._namespace or None).pipelines
            return str(found[0].pipeline_id) if found else None

        pipeline_id = self._api.ask("look for the pipeline", existing_pipeline)
        if pipeline_id is None:
            pipeline_id = self.once(
                f"make the pipeline {pipeline}",
                lambda client: (
                    client.upload_pipeline(str(file), pipeline, namespace=self._namespace or None).pipeline_id
                ),
                existing_pipeline,
            )

        def existing(client: kfp.Client) -> str | None:
            asked = equals("display_name", version)
            found = client.list_pipeline_versions(pipeline_id, page_size=1, filter=asked).pipeline_versions
            return found[0].pipeline_version_id if found else None

        found = self._api.ask("look for the pipeline's version", existing)
        if found is None:
            found = self.once(
                f"make version {version} of the pipeline {pipeline}",
                lambda client: (
                    client.upload_pipeline_version(str(file), version, pipeline_id=pipeline_id).pipeline_version_id
                ),
                existing,
            )
        return pipeline_id, found

    def once(self, what: str, make: Callable[[kfp.Client], Any], look: Callable[[kfp.Client], str | None]) -> str:
        """Make something that has a name; where it was made meanwhile, or before a connection was cut, take that."""
        try:
            return str(self._api.ask(what, make, repeat=False))
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


def predicate(operation: str, key: str, value: str) -> str:
    """A filter of a list: one condition on one field."""
    return json.dumps({"predicates": [{"operation": operation, "key": key, "stringValue": value}]})


def equals(key: str, value: str) -> str:
    """A filter of a list: what a field is."""
    return predicate("EQUALS", key, value)
