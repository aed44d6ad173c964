"""HTTP server of the API: its paths, and how it refuses."""

from __future__ import annotations

import http
import json
import re
from collections.abc import Callable
from typing import Any

from tests.control_planes.kubeflow.errors import Code
from tests.control_planes.kubeflow.faults import CODES, Fault, Faults
from tests.control_planes.kubeflow.http_server import Handler, Request, Server
from tests.control_planes.vertex.errors import GoogleError
from tests.control_planes.vertex.jobs import Jobs
from tests.control_planes.vertex.logs import Entries
from tests.control_planes.vertex.metadata import Contexts
from tests.control_planes.vertex.project import Project
from tests.control_planes.vertex.schedules import Schedules
from tests.control_planes.vertex.studies import Studies

PARENT = r"(?P<parent>projects/[^/]+/locations/[^/]+)"
STORE = rf"{PARENT}/metadataStores/default/contexts"


class Api:
    """The paths of the API, each with what answers it."""

    def __init__(
        self, jobs: Jobs, schedules: Schedules, contexts: Contexts, entries: Entries, studies: Studies, project: Project
    ) -> None:
        one = "(?P<identity>[^/:]+)"
        routes: list[tuple[str, str, Callable[..., Any]]] = [
            (
                "POST",
                f"{PARENT}/pipelineJobs",
                lambda request, parent: jobs.create(parent, request.body(), request.query.get("pipelineJobId", "")),
            ),
            ("GET", f"{PARENT}/pipelineJobs", lambda request, parent: jobs.listed(parent, request.query)),
            ("GET", f"{PARENT}/pipelineJobs/{one}", lambda request, parent, identity: jobs.get(identity)),
            ("POST", f"{PARENT}/pipelineJobs/{one}:cancel", lambda request, parent, identity: jobs.cancel(identity)),
            (
                "DELETE",
                f"{PARENT}/pipelineJobs/{one}",
                lambda request, parent, identity: _done(parent, jobs.delete(identity)),
            ),
            ("POST", f"{PARENT}/schedules", lambda request, parent: schedules.create(parent, request.body())),
            ("GET", f"{PARENT}/schedules", lambda request, parent: schedules.listed(parent, request.query)),
            ("GET", f"{PARENT}/schedules/{one}", lambda request, parent, identity: schedules.get(identity)),
            (
                "PATCH",
                f"{PARENT}/schedules/{one}",
                lambda request, parent, identity: schedules.update(identity, request.body(), request.query),
            ),
            ("POST", f"{PARENT}/schedules/{one}:pause", lambda request, parent, identity: schedules.pause(identity)),
            (
                "POST",
                f"{PARENT}/schedules/{one}:resume",
                lambda request, parent, identity: schedules.resume(identity, request.body()),
            ),
            (
                "DELETE",
                f"{PARENT}/schedules/{one}",
                lambda request, parent, identity: _done(parent, schedules.delete(identity)),
            ),
            (
                "POST",
                STORE,
                lambda request, parent: contexts.create(parent, request.query.get("contextId", ""), request.body()),
            ),
            ("GET", f"{STORE}/{one}", lambda request, parent, identity: contexts.get(identity)),
            (
                "POST",
                f"{STORE}/{one}:addContextChildren",
                lambda request, parent, identity: contexts.add_children(identity, request.body()),
            ),
        ]
        study = rf"{PARENT}/studies/(?P<identity>[^/:]+)"
        routes += [
            ("POST", f"{PARENT}/studies", lambda request, parent: studies.create(parent, request.body())),
            ("POST", f"{PARENT}/studies:lookup", lambda request, parent: studies.lookup(parent, request.body())),
            ("GET", f"{PARENT}/studies", lambda request, parent: studies.listed(parent)),
            ("DELETE", study, lambda request, parent, identity: studies.delete(identity)),
            ("GET", f"{study}/trials", lambda request, parent, identity: studies.trials(identity)),
            (
                "POST",
                f"{study}/trials:suggest",
                lambda request, parent, identity: studies.suggest(parent, identity, request.body()),
            ),
            (
                "POST",
                rf"{study}/trials/(?P<number>\d+):complete",
                lambda request, parent, identity, number: studies.complete(identity, number, request.body()),
            ),
        ]
        self._routes = [(method, re.compile(f"/v1(?:beta1)?/{path}"), answer) for method, path, answer in routes]
        others: list[tuple[str, str, Callable[..., Any]]] = [
            ("POST", "/v2/entries:list", lambda request: entries.listed(request.body())),
            ("GET", "/v1/projects/[^/]+/services/([^/]+)", lambda request, name: project.service(name)),
            (
                "GET",
                "/v1beta1/projects/[^/]+/services/aiplatform.googleapis.com/consumerQuotaMetrics/(.+)",
                lambda request, metric: project.quota(metric),
            ),
            (
                "GET",
                "/compute/v1/projects/[^/]+/aggregated/(machineTypes|acceleratorTypes)",
                lambda request, collection: project.types(collection, request.query["filter"]),
            ),
            ("POST", "/v1/projects/[^/]+:testIamPermissions", lambda request: project.granted(request.body())),
            ("POST", "/v1/projects/[^/]+:getIamPolicy", lambda request: project.policy()),
            (
                "POST",
                "/v1/projects/-/serviceAccounts/([^/]+):testIamPermissions",
                lambda request, account: project.granted_on_account(account, request.body()),
            ),
            ("GET", "/storage/v1/b/([^/]+)", lambda request, name: project.bucket(name)),
            (
                "GET",
                "/storage/v1/b/[^/]+/iam/testPermissions",
                lambda request: project.granted_on_bucket(),
            ),
            ("GET", "/v1/(.+/secrets/.+/versions/.+)", lambda request, name: project.secret(name)),
            ("GET", "/v1/(.+/cryptoKeys/.+)", lambda request, name: project.key(name)),
            ("GET", "/v1/(.+/persistentResources/.+)", lambda request, name: project.persistent_resource(name)),
        ]
        self._others = [(method, re.compile(path), answer) for method, path, answer in others]

    def answer(self, request: Request) -> dict[str, Any]:
        """What a request is answered.

        Raises:
            GoogleError: it is refused.
        """
        for method, path, answer in self._routes:
            if method == request.method and (match := path.fullmatch(request.path)):
                answered: dict[str, Any] = answer(request, **match.groupdict())
                return answered
        for method, path, answer in self._others:
            if method == request.method and (match := path.fullmatch(request.path)):
                told: dict[str, Any] = answer(request, *match.groups())
                return told
        raise GoogleError(Code.not_found, f"Not Found: {request.method} {request.path}")


def _done(parent: str, response: dict[str, Any]) -> dict[str, Any]:
    """A long-running operation that took no time."""
    empty = {"@type": "type.googleapis.com/google.protobuf.Empty", **response}
    return {"name": f"{parent}/operations/1", "done": True, "response": empty}


class GoogleHandler(Handler):
    """Speaks HTTP for one connection, and refuses as Google's APIs do."""

    def _refuse(self, fault: Fault) -> None:
        code = CODES.get(fault.status, Code.internal)
        error = GoogleError(code, fault.message or http.HTTPStatus(fault.status).phrase)
        self._send(fault.status, json.dumps(error.body()).encode(), "application/json", fault.headers)


class GoogleServer(Server):
    """The server."""

    def __init__(self, address: tuple[str, int], api: Api, faults: Faults) -> None:
        super().__init__(address, api, faults)  # type: ignore[arg-type]
        self.RequestHandlerClass = GoogleHandler
