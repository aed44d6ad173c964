"""A stand-in for a cluster with KServe in Knative mode: its API over HTTP, and the servers of each revision.

Its status follows KServe's own rules (`ksvc_reconciler.go` for the traffic, `inference_service_status.go` for the
revisions). One step of the controller is done whenever the service is looked at, so what needs time there needs a
second look here.
"""

from __future__ import annotations

import json
import random
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What stands beside a service.
BUDGETS = re.compile(r"/apis/policy/v1/namespaces/[^/]+/poddisruptionbudgets(/[^/]+)?$")
OBJECTS = re.compile(r"/apis/serving\.kserve\.io/v1beta1/namespaces/([^/]+)/inferenceservices(?:/([^/]+))?$")
HOST = re.compile(r"(?:(latest|prev)-)?(.+)-predictor\.([^.]+)\.svc\.cluster\.local$")


@dataclass
class Revision:
    """What Knative makes of one state of the service's template."""

    name: str
    template: str
    version: str
    shadow_token: str
    ready: bool = False


@dataclass
class InferenceService:
    """One service and what the controllers made of it."""

    body: dict[str, Any]
    broken: set[str]
    revisions: list[Revision] = field(default_factory=list)
    traffic: list[dict[str, Any]] = field(default_factory=list)
    predictor: dict[str, Any] = field(default_factory=dict)

    def reconcile(self) -> None:
        """One step of both controllers."""
        for revision in self.revisions:
            revision.ready = revision.version not in self.broken
        spec = self.body["spec"]["predictor"]
        # KServe hands the service's annotations on to the template, so a changed one makes a revision.
        template = json.dumps(
            [self.body["metadata"]["annotations"], {**spec, "canaryTrafficPercent": None}], sort_keys=True
        )
        if not self.revisions or self.revisions[-1].template != template:
            name = f"{self.body['metadata']['name']}-predictor-{len(self.revisions) + 1:05d}"
            arguments = dict(item[2:].split("=", 1) for item in spec["containers"][0]["args"])
            variables = {item["name"]: item.get("value", "") for item in spec["containers"][0]["env"]}
            token = variables["LIFECYCLE_SHADOW_TOKEN"]
            self.revisions.append(Revision(name, template, arguments["version"], token))
        self._route(spec.get("canaryTrafficPercent"))
        self._report()

    def _route(self, canary: int | None) -> None:
        ready = [revision.name for revision in self.revisions if revision.ready]
        rolled_out = self.predictor.get("latestRolledoutRevision", "")
        self.traffic = []
        if not ready:
            return
        share = 100 if canary is None or not rolled_out else canary
        latest = {"revisionName": ready[-1], "latestRevision": True, "percent": share, "tag": "latest"}
        self.traffic.append(latest)
        if share < 100:
            pinned = {"revisionName": rolled_out, "latestRevision": False, "percent": 100 - share, "tag": "prev"}
            self.traffic.append(pinned)

    def _report(self) -> None:
        status, created = self.predictor, self.revisions[-1].name
        status["latestCreatedRevision"] = created
        if self.traffic:
            latest = self.traffic[0]
            name, whole = (
                latest["revisionName"],
                sum(item["percent"] for item in self.traffic if item["revisionName"] == latest["revisionName"]),
            )
            if status.get("latestRolledoutRevision", "") != name:
                if latest["percent"] == 100:
                    status["previousRolledoutRevision"] = status.get("latestRolledoutRevision", "")
                    status["latestRolledoutRevision"] = name
            elif name == created and latest["percent"] < 100 and whole == 100 and status["previousRolledoutRevision"]:
                status["latestRolledoutRevision"] = status["previousRolledoutRevision"]
            status["latestReadyRevision"] = name
        status["traffic"] = [dict(item) for item in self.traffic]

    def object(self) -> dict[str, Any]:
        """The service as the API shows it."""
        name, namespace = self.body["metadata"]["name"], self.body["metadata"]["namespace"]
        status = {
            "url": f"http://{name}.{namespace}.example.com",
            "components": {"predictor": {key: value for key, value in self.predictor.items() if value}},
        }
        if self.revisions[-1].version in self.broken:
            status["modelStatus"] = {"lastFailureInfo": {"message": "no module named serving"}}
        return {**self.body, "status": status}

    def shares(self) -> dict[str, int]:
        """Percent of the traffic by version."""
        versions = {revision.name: revision.version for revision in self.revisions}
        found: dict[str, int] = {}
        for item in self.traffic:
            version = versions[item["revisionName"]]
            found[version] = found.get(version, 0) + item["percent"]
        return {version: share for version, share in found.items() if share}

    def answering(self, tag: str | None) -> str | None:
        """The version that a request gets to, by a tag or by the split."""
        versions = {revision.name: revision.version for revision in self.revisions}
        routes = [item for item in self.traffic if tag is None or item["tag"] == tag]
        if not routes:
            return None
        weights = [item["percent"] for item in routes] if tag is None else [1] * len(routes)
        return versions[random.choices(routes, weights)[0]["revisionName"]]


class Cluster:
    """What the cluster remembers, and the score that each version answers with."""

    def __init__(self) -> None:
        self.services: dict[tuple[str, str], InferenceService] = {}
        self.scores: dict[str, float] = {}
        self.broken: set[str] = set()
        """Versions that never get ready."""
        self.forbidden: set[str] = set()
        """HTTP methods that the account may not use."""
        self.budgets: dict[str, Any] = {}
        """Disruption budgets by name."""
        self.asked: list[str] = []
        """The version of each inference request, in order."""
        self.believed: list[bool] = []
        """Whether the version that was asked knew the request's shadow token."""

    def api(self, method: str, path: str, kind: str, body: Any) -> tuple[int, Any]:
        """One call of the Kubernetes API."""
        if BUDGETS.match(path):
            return self._budget(method, path.rpartition("/")[2], body)
        match = OBJECTS.match(path)
        assert match is not None, path
        namespace, name = match[1], match[2] or (body or {}).get("metadata", {}).get("name")
        if method in self.forbidden:
            return 403, {"message": f"{method} is forbidden"}
        service = self.services.get((namespace, name))
        if method == "POST":
            service = self.services[namespace, name] = InferenceService(body, self.broken)
        if service is None:
            return 404, {"message": "not found"}
        if method == "DELETE":
            del self.services[namespace, name]
            return 200, {}
        if method == "PATCH":
            if kind != "application/merge-patch+json":
                return 415, {"message": f"a custom resource takes no {kind}"}
            service.body = merged(service.body, body)
        service.reconcile()
        return 200, service.object()

    def _budget(self, method: str, name: str, body: Any) -> tuple[int, Any]:
        if method == "PATCH" and name not in self.budgets:
            return 404, {"message": "not found"}
        name = body["metadata"]["name"]
        self.budgets[name] = merged(self.budgets.get(name), body)
        return 200, self.budgets[name]

    def infer(self, host: str, path: str, shadow_token: str) -> tuple[int, Any]:
        """One request to a server, inside the cluster."""
        match = HOST.match(host)
        assert match is not None, host
        service = self.services.get((match[3], match[2]))
        version = service.answering(match[1]) if service is not None else None
        if version is None:
            return 404, {"error": "no such route"}
        if path.endswith("/ready"):
            return 200, {"ready": True}
        self.asked.append(version)
        assert service is not None
        known = {revision.version: revision.shadow_token for revision in service.revisions}
        self.believed.append(shadow_token != "" and shadow_token == known[version])
        return 200, {"outputs": [{"name": "score", "data": [self.scores[version]]}]}


def merged(target: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def serve(cluster: Cluster) -> ThreadingHTTPServer:
    """Start the cluster's only door, on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # One packet an answer: two would wait for each other.
        wbufsize = -1

        def answer(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"null")
            host = (self.headers.get("host") or "").partition(":")[0]
            if host.endswith(".svc.cluster.local"):
                status, content = cluster.infer(host, self.path, self.headers.get("x-shadow") or "")
            else:
                kind = self.headers.get("content-type") or ""
                status, content = cluster.api(self.command, self.path.partition("?")[0], kind, body)
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server
