"""Pipelines and their versions."""

from __future__ import annotations

from collections.abc import Mapping

from tests.control_planes.kubeflow.control_plane import ControlPlane, new_id, timestamp, without_empty
from tests.control_planes.kubeflow.errors import ApiError, invalid, not_found
from tests.control_planes.kubeflow.listing import page
from tests.control_planes.kubeflow.specification import Template, check_length, read_package
from tests.control_planes.kubeflow.state import Document

FIELDS = {
    "id": "id",
    "pipeline_id": "id",
    "name": "name",
    "display_name": "display_name",
    "created_at": "created",
    "description": "description",
    "namespace": "namespace",
}
VERSION_FIELDS = {
    "id": "id",
    "pipeline_version_id": "id",
    "name": "name",
    "display_name": "display_name",
    "created_at": "created",
    "description": "description",
}


class UploadError(Exception):
    """An upload that is refused. These answers are not grpc-gateway's, and often say less than was known."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Pipelines:
    """The service of pipelines."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane, self._state = plane, plane.state

    def upload(self, file: tuple[str, bytes], query: Mapping[str, str]) -> Document:
        """A new pipeline with its first version, from a file: its name and content."""
        text = self._package(*file, "Failed to read a pipeline spec file")
        namespace = self._plane.kept_namespace(query.get("namespace", ""))
        name = query.get("name") or query.get("display_name") or file[0]
        self._permitted(namespace, "Failed to create a pipeline")
        try:
            check_length("Pipeline.Namespace", namespace)
            check_length("Pipeline.Name", name)
            template = Template.parse(text)
            template.check_name()
        except ApiError as error:
            raise UploadError(400, error.external) from error
        with self._state.lock:
            if self._named(name, namespace):
                raise UploadError(409, "Failed to create a pipeline and a pipeline version")
            pipeline: Document = {
                "id": new_id(),
                "name": name,
                "display_name": query.get("display_name") or name,
                "description": query.get("description", ""),
                "namespace": namespace,
                "created": self._plane.seconds(),
            }
            self._state.save("pipelines", pipeline)
            self._save_version(pipeline["id"], name, pipeline["display_name"], pipeline["description"], template)
        return self._answer(pipeline)

    def upload_version(self, file: tuple[str, bytes], query: Mapping[str, str]) -> Document:
        """A new version of a pipeline."""
        failed = "Failed to create a pipeline version"
        text = self._package(*file, failed)
        pipeline = self._state.get("pipelines", query.get("pipelineid", ""))
        name = query.get("name") or query.get("display_name") or file[0]
        if pipeline is None:
            raise UploadError(400, failed)
        self._permitted(pipeline["namespace"], failed)
        try:
            check_length("PipelineVersion.Name", name)
            template = Template.parse(text)
            template.check_name()
        except ApiError as error:
            raise UploadError(400, error.external) from error
        with self._state.lock:
            if any(version["name"] == name for version in self._versions_of(pipeline["id"])):
                raise UploadError(409, failed)
            version = self._save_version(
                pipeline["id"], name, query.get("display_name") or name, query.get("description", ""), template
            )
        return self._version_answer(version)

    def find_version(self, identity: str) -> Document:
        """A version by its ID."""
        version = self._state.get("versions", identity)
        if version is None:
            raise not_found("PipelineVersion", identity)
        return version

    def latest_version(self, pipeline: str) -> Document:
        """The newest version of a pipeline."""
        versions = self._versions_of(pipeline)
        if not versions:
            raise not_found("PipelineVersion", pipeline)
        return versions[-1]

    def get(self, identity: str) -> Document:
        """A pipeline."""
        return self._answer(self._authorized("get", identity))

    def get_by_name(self, name: str, query: Mapping[str, str]) -> Document:
        """A pipeline by its name."""
        namespace = self._plane.kept_namespace(query.get("namespace", ""))
        self._authorize("get", namespace)
        pipeline = self._named(name, namespace)
        if pipeline is None:
            raise not_found("Namespace/Pipeline", f"{namespace}/{name}").within(
                f"Failed to get a pipeline with name {name} and namespace {namespace}. Check error stack."
            )
        return self._answer(pipeline)

    def listed(self, query: Mapping[str, str]) -> Document:
        """A page of the pipelines of a namespace."""
        namespace = self._plane.kept_namespace(query.get("namespace", ""))
        self._authorize("list", namespace)
        known = [item for item in self._state.all("pipelines") if item["namespace"] == namespace]
        found, total, token = page("Pipeline", known, "id", FIELDS, query)
        answers = [self._answer(item) for item in found]
        return without_empty({"pipelines": answers, "total_size": total, "next_page_token": token})

    def delete(self, identity: str, query: Mapping[str, str]) -> Document:
        """Forget a pipeline; one that has versions only with `cascade`."""
        self._authorized("delete", identity)
        versions = self._versions_of(identity)
        if versions and query.get("cascade") != "true":
            raise invalid(
                f"Failed to delete pipeline with id {identity} as it has existing pipeline versions (e.g. "
                f"{versions[-1]['id']}). Set cascade=true to delete all versions"
            )
        for version in versions:
            self._state.delete("versions", version["id"])
        self._state.delete("pipelines", identity)
        return {}

    def get_version(self, pipeline: str, identity: str) -> Document:
        """A version of a pipeline."""
        version = self.find_version(identity)
        self._authorized("get", version["pipeline_id"])
        return self._version_answer(version)

    def list_versions(self, pipeline: str, query: Mapping[str, str]) -> Document:
        """A page of the versions of a pipeline."""
        self._authorized("list", pipeline)
        found, total, token = page("PipelineVersion", self._versions_of(pipeline), "id", VERSION_FIELDS, query)
        answers = [self._version_answer(item) for item in found]
        return without_empty({"pipeline_versions": answers, "total_size": total, "next_page_token": token})

    def delete_version(self, pipeline: str, identity: str) -> Document:
        """Forget a version of a pipeline."""
        version = self.find_version(identity)
        self._authorized("delete", version["pipeline_id"])
        self._state.delete("versions", identity)
        return {}

    def _save_version(
        self, pipeline: str, name: str, display_name: str, description: str, template: Template
    ) -> Document:
        version = {
            "id": new_id(),
            "pipeline_id": pipeline,
            "name": name,
            "display_name": display_name,
            "description": description,
            "created": self._plane.seconds(),
            "order": len(self._state.all("versions")),
            "text": template.text(),
        }
        self._state.save("versions", version)
        return version

    def _versions_of(self, pipeline: str) -> list[Document]:
        versions = [item for item in self._state.all("versions") if item["pipeline_id"] == pipeline]
        return sorted(versions, key=lambda item: (item["created"], item["order"]))

    def _named(self, name: str, namespace: str) -> Document | None:
        every = self._state.all("pipelines")
        return next((item for item in every if (item["name"], item["namespace"]) == (name, namespace)), None)

    def _authorized(self, verb: str, identity: str) -> Document:
        pipeline = self._state.get("pipelines", identity)
        if pipeline is None:
            raise not_found("Pipeline", identity)
        self._authorize(verb, pipeline["namespace"])
        return pipeline

    def _authorize(self, verb: str, namespace: str) -> None:
        # Pipelines without a namespace are everybody's.
        if namespace:
            self._plane.authorize(verb, "pipelines", namespace)

    def _permitted(self, namespace: str, failed: str) -> None:
        try:
            self._authorize("create", namespace)
        except ApiError as error:
            raise UploadError(400, failed) from error

    @staticmethod
    def _package(file: str, content: bytes, failed: str) -> str:
        try:
            return read_package(file, content)
        except ValueError as error:
            raise UploadError(400, failed) from error

    @staticmethod
    def _answer(pipeline: Document) -> Document:
        return without_empty(
            {
                "pipeline_id": pipeline["id"],
                "name": pipeline["name"],
                "display_name": pipeline["display_name"],
                "description": pipeline["description"],
                "created_at": timestamp(pipeline["created"]),
                "namespace": pipeline["namespace"],
            }
        )

    @staticmethod
    def _version_answer(version: Document) -> Document:
        return without_empty(
            {
                "pipeline_id": version["pipeline_id"],
                "pipeline_version_id": version["id"],
                "name": version["name"],
                "display_name": version["display_name"],
                "description": version["description"],
                "created_at": timestamp(version["created"]),
                "pipeline_spec": Template.parse(version["text"]).as_struct(),
            }
        )
