"""KServe's controller in Standard mode, as a stand-in, on a real Kubernetes API server.

It follows KServe's own rules (`predictor.go` for canaries, `httproute_reconciler.go` for weights,
`inference_service_validation.go` for what a service may say). One step of it is done at a time, so that what needs time
there needs some here: a Deployment is ready one step after it was made.
"""

from __future__ import annotations

import re
from typing import Any

from kserve_cluster import Cluster
from kubernetes import client as kubernetes

SERVICES = ("serving.kserve.io", "v1beta1")
ROUTES = ("gateway.networking.k8s.io", "v1")
HOST = re.compile(r"(?P<service>.+-predictor)\.(?P<namespace>[^.]+)\.svc\.cluster\.local$")
# KServe refuses them of a canary.
OF_THE_STABLE = {"maxReplicas", "scaleTarget", "scaleMetric", "autoScaling"}


class StandardCluster(Cluster):
    """What runs, and which version answers at which Service."""

    def __init__(self) -> None:
        super().__init__()
        self.deployments: dict[str, dict[str, Any]] = {}
        """By name the template of its pods, the number of them, and whether they are ready."""
        self.made: list[str] = []
        """Each template that pods were ever made of, by Deployment."""
        self.refused: list[str] = []
        """What KServe would have refused."""

    def infer(self, host: str, path: str, shadow_token: str) -> tuple[int, Any]:
        """One request to a server, inside the cluster."""
        match = HOST.match(host)
        assert match is not None, host
        deployment = self.deployments.get(match["service"])
        if deployment is None or not deployment["ready"]:
            return 503, {"error": "no endpoints"}
        version = deployment["version"]
        self.asked.append(version)
        self.believed.append(shadow_token != "" and shadow_token == deployment["token"])
        return 200, {"outputs": [{"name": "score", "data": [self.scores[version]]}]}


class StandardControllers:
    """KServe and a gateway, working on what the API server keeps."""

    def __init__(self, client: kubernetes.ApiClient, namespace: str, cluster: StandardCluster) -> None:
        self._objects = kubernetes.CustomObjectsApi(client)
        self._namespace, self._cluster = namespace, cluster

    def reconcile(self) -> None:
        """One look at all that there is."""
        found = self._objects.list_namespaced_custom_object(*SERVICES, self._namespace, "inferenceservices")["items"]
        wanted = {name for service in found for name in self._reconcile(service)}
        for name in set(self._cluster.deployments) - wanted:
            del self._cluster.deployments[name]

    def _reconcile(self, service: dict[str, Any]) -> set[str]:
        self._cluster.refused += refused_by_kserve(service)
        try:
            return self._reconcile_one(service)
        except kubernetes.ApiException as error:
            # Changed or deleted meanwhile: it is looked at again.
            if error.status not in (404, 409):
                raise
            return set(self._cluster.deployments)

    def _reconcile_one(self, service: dict[str, Any]) -> set[str]:
        model, stable = service["metadata"]["name"], service["spec"]["predictor"]
        canaries = service["spec"].get("canary") or []
        predictors = [(stable, stable["minReplicas"])]
        predictors += [({**stable, **item["predictor"]}, item["predictor"]["minReplicas"]) for item in canaries]
        for predictor, replicas in predictors:
            self._deploy(model, predictor, replicas)
        deployments = self._cluster.deployments
        ready = {item["predictor"]["name"] for item in canaries if deployments[_name(model, item)]["ready"]}
        stable_ready = deployments[f"{model}-{stable['name']}-predictor"]["ready"]
        if stable_ready:
            self._route(model, stable["name"], canaries, ready)
        status: dict[str, Any] = {
            "url": f"http://{model}.{self._namespace}.example.com",
            "deploymentMode": "Standard",
            "conditions": [{"type": "PredictorReady", "status": "True" if stable_ready else "False"}],
            "canaryStatuses": [
                {
                    "name": item["predictor"]["name"],
                    "ready": item["predictor"]["name"] in ready,
                    "trafficPercent": item["trafficPercent"],
                }
                for item in canaries
            ],
        }
        if not all(deployment["ready"] for deployment in deployments.values()):
            status["modelStatus"] = {
                "transitionStatus": "InProgress",
                "lastFailureInfo": {"message": "no module named serving"},
            }
        if status != service.get("status"):
            body = {**service, "status": status}
            self._objects.replace_namespaced_custom_object_status(
                *SERVICES, self._namespace, "inferenceservices", model, body
            )
        return {f"{model}-{predictor['name']}-predictor" for predictor, _ in predictors}

    def _deploy(self, model: str, predictor: dict[str, Any], replicas: int) -> None:
        name = f"{model}-{predictor['name']}-predictor"
        (container,) = predictor["containers"]
        # What makes other pods: all but the number of them.
        template = repr([container, predictor["labels"], predictor["annotations"], predictor["volumes"]])
        there = self._cluster.deployments.get(name)
        arguments = dict(item[2:].split("=", 1) for item in container["args"])
        version = arguments["version"]
        if there is None or there["template"] != template:
            self._cluster.made.append(name)
            variables = {item["name"]: item.get("value", "") for item in container["env"]}
            there = {
                "template": template,
                "version": version,
                "token": variables["LIFECYCLE_SHADOW_TOKEN"],
                "looks": 0,
            }
            self._cluster.deployments[name] = there
        there["looks"] += 1
        there["replicas"] = replicas
        there["ready"] = there["looks"] > 1 and version not in self._cluster.broken

    def _route(self, model: str, stable: str, canaries: list[dict[str, Any]], ready: set[str]) -> None:
        """The weights: those of ready canaries, and what is left for the stable predictor."""
        shares = {_name(model, item): item["trafficPercent"] for item in canaries if item["predictor"]["name"] in ready}
        first = {"group": "", "kind": "Service", "name": f"{model}-{stable}-predictor", "namespace": self._namespace}

        def rule(match: dict[str, Any], port: int) -> dict[str, Any]:
            backends = [{**first, "port": port, "weight": 100 - sum(shares.values()) if canaries else 1}]
            backends += [{**first, "name": name, "port": port, "weight": share} for name, share in shares.items()]
            return {"matches": [match], "backendRefs": backends}

        grpc = {"path": {"type": "RegularExpression", "value": r"^/inference\.GRPCInferenceService/.*$"}}
        grpc["headers"] = [{"type": "RegularExpression", "name": "content-type", "value": "^application/grpc.*"}]  # type: ignore[assignment]
        rest = {"path": {"type": "RegularExpression", "value": "^/.*$"}}
        specification = {
            "parentRefs": [
                {"group": ROUTES[0], "kind": "Gateway", "namespace": "kserve", "name": "kserve-ingress-gateway"}
            ],
            "hostnames": [f"{model}-{self._namespace}.example.com"],
            "rules": [rule(grpc, 8081), rule(rest, 80)],
        }
        place = (*ROUTES, self._namespace, "httproutes")
        body = {"apiVersion": "/".join(ROUTES), "kind": "HTTPRoute", "metadata": {"name": model}, "spec": specification}
        try:
            kept = self._objects.get_namespaced_custom_object(*place, model)
        except kubernetes.ApiException as error:
            if error.status != 404:
                raise
            kept = self._objects.create_namespaced_custom_object(*place, body, field_validation="Strict")
        if kept["spec"] != specification:
            kept["spec"] = specification
            kept = self._objects.replace_namespaced_custom_object(*place, model, kept)
        elif (
            kept.get("status", {}).get("parents", [{}])[0].get("conditions", [{}])[0].get("observedGeneration")
            != kept["metadata"]["generation"]
        ):
            # The gateway takes it at its next look.
            condition = {
                "type": "Accepted",
                "status": "True",
                "reason": "Accepted",
                "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
                "observedGeneration": kept["metadata"]["generation"],
            }
            parent = {
                "parentRef": specification["parentRefs"][0],
                "controllerName": "example.com/gateway",
                "conditions": [condition],
            }
            kept["status"] = {"parents": [parent]}
            self._objects.replace_namespaced_custom_object_status(*place, model, kept)


def _name(model: str, canary: dict[str, Any]) -> str:
    return f"{model}-{canary['predictor']['name']}-predictor"


def refused_by_kserve(service: dict[str, Any]) -> list[str]:
    """What of a service the rules of KServe's webhook, which there is none of here, would not let through."""
    stable, canaries = service["spec"]["predictor"], service["spec"].get("canary") or []
    names = [stable["name"], *(item["predictor"]["name"] for item in canaries)]
    rules = {
        "the mode": service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard",
        "names": len(set(names)) == len(names),
        "shares": sum(item["trafficPercent"] for item in canaries) <= 100,
        "replicas": stable["minReplicas"] <= stable["maxReplicas"],
        "words of the stable predictor": not any(OF_THE_STABLE & set(item["predictor"]) for item in canaries),
        "replicas of a canary": all(item["predictor"]["minReplicas"] <= stable["minReplicas"] for item in canaries),
        "models": all(
            any(variable["name"] == "STORAGE_URI" for variable in predictor["containers"][0]["env"])
            for predictor in (stable, *(item["predictor"] for item in canaries))
        ),
    }
    return [f"{rule}: {service['spec']}" for rule, holds in rules.items() if not holds]
