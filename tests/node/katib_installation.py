"""Katib 0.19 in the node, by the manifests of its own module: definitions, rights, webhooks, controller, manager.

Its programs in Go are Katib's own, built by `.ci/go/build`: controller, DB manager, collector, and of its suggestion
services the one that is not Python, goptuna, which knows `tpe`. Early stopping is ours (`.ci/go/katib/medianstop`),
since Katib's is Python. Certificates are made here, as cert-manager would make them.
"""

from __future__ import annotations

import base64
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client

from tests.kubernetes_api import ADMIN
from tests.kubernetes_node.images import base_image, build
from tests.kubernetes_node.node import Node, wait_until
from tests.node.environment_images import PACKAGES
from tests.node.store_images import store_images
from tests.servers import GO_PROGRAMS, ServerMissing

NAMESPACE = "kubeflow"
# A namespace whose trials are collected, as a profile of Kubeflow is. Under the Restricted standard there is no early
# stopping: Katib makes its container without the words that the standard asks for.
LABELS = {
    "katib.kubeflow.org/metrics-collector-injection": "enabled",
    "pod-security.kubernetes.io/enforce": "baseline",
}
PROGRAMS = ("controller", "db-manager", "suggestion", "collector", "medianstop")
COMPONENTS = GO_PROGRAMS / "katib-manifests" / "components"
WANTED = ("namespace", "postgres", "db-manager", "controller", "webhook")
READY_SECONDS = 120.0
# The collector looks for the process that it is to stop by this program, which its own image has of BusyBox.
PGREP = r"""RUN { \
  echo '#!/bin/sh'; \
  echo 'grep -ls "^PPid:[[:space:]]*$2$" /proc/[0-9]*/status | cut -d/ -f3 | grep .'; \
} > /bin/pgrep && chmod +x /bin/pgrep
"""


def images() -> dict[str, str]:
    """Build the image of each program, and what stands for PostgreSQL's; their names."""
    missing = [name for name in PROGRAMS if not (GO_PROGRAMS / f"katib-{name}").exists()]
    if missing:
        raise ServerMissing(f"there is no Katib on this machine: {', '.join(missing)} (.ci/go/build makes them)")
    built = {}
    for name in PROGRAMS:
        # As in its own images, controller and manager are started as files of the working folder.
        program = f"katib-{name}"
        recipe = f'WORKDIR /app\nCOPY {program} /app/\nENTRYPOINT ["/app/{program}"]\n'
        base = f"FROM {base_image()}\n{PGREP}" if name == "collector" else "FROM scratch\n"
        built[name] = build(f"localhost/{program}:0.19", base + recipe, [GO_PROGRAMS / program])
    return {**built, "postgres": store_images()["postgres"]}


def configuration(built: dict[str, str]) -> dict[str, Any]:
    """Katib's own settings: those of its installation, but for the images."""
    probe = {"grpc": {"port": 6789}, "periodSeconds": 1}
    return {
        "apiVersion": "config.kubeflow.org/v1beta1",
        "kind": "KatibConfig",
        "init": {
            "certGenerator": {"enable": False},
            "controller": {"webhookPort": 8443, "trialResources": ["Job.v1.batch"]},
        },
        "runtime": {
            "metricsCollectors": [{"kind": "StdOut", "image": built["collector"]}],
            "suggestions": [{"algorithmName": "tpe", "image": built["suggestion"], "readinessProbe": probe}],
            "earlyStoppings": [{"algorithmName": "medianstop", "image": built["medianstop"]}],
        },
    }


def certificate() -> tuple[str, str]:
    """One for the webhooks, and its key, as secrets and webhooks hold them."""
    name = f"katib-controller.{NAMESPACE}.svc"
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "crt", Path(folder) / "key"]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        command += ["-addext", f"subjectAltName=DNS:{name}", "-out", str(files[0]), "-keyout", str(files[1])]
        subprocess.run(command, check=True, capture_output=True)
        signed, key = (base64.b64encode(file.read_bytes()).decode() for file in files)
    return signed, key


def manifests(built: dict[str, str]) -> Iterator[dict[str, Any]]:
    """What is installed, but for the definitions of the kinds."""
    signed, key = certificate()
    for component in WANTED:
        for file in sorted((COMPONENTS / component).glob("*.yaml")):
            for manifest in yaml.safe_load_all(file.read_text("utf-8")):
                if manifest["kind"] in ("Kustomization", "PersistentVolumeClaim"):
                    continue
                if manifest["kind"] == "Secret":
                    manifest["metadata"]["namespace"] = NAMESPACE
                for webhook in manifest.get("webhooks", []):
                    webhook["clientConfig"]["caBundle"] = signed
                if manifest["kind"] == "Deployment":
                    change_pod(manifest["metadata"]["name"], manifest["spec"]["template"]["spec"], built)
                yield manifest
                if manifest["kind"] == "Namespace":
                    text = yaml.safe_dump(configuration(built))
                    common = {"apiVersion": "v1", "metadata": {"namespace": NAMESPACE, "name": "katib-config"}}
                    yield {**common, "kind": "ConfigMap", "data": {"katib-config.yaml": text}}
                    common["metadata"] = {"namespace": NAMESPACE, "name": "katib-webhook-cert"}
                    yield {**common, "kind": "Secret", "data": {"tls.crt": signed, "tls.key": key}}


def change_pod(name: str, pod: dict[str, Any], built: dict[str, str]) -> None:
    """Let a pod of the installation start here: other images, and a database that lasts as long as its pod."""
    (container,) = pod["containers"]
    container["image"] = built[name.removeprefix("katib-")]
    if name == "katib-db-manager":
        # As the installation with PostgreSQL says.
        container["env"] = [{"name": "DB_NAME", "value": "postgres"}, {"name": "DB_PASSWORD", "value": "katib"}]
    if name == "katib-postgres":
        pod["securityContext"] = {"runAsUser": 70, "fsGroup": 70}
        pod["volumes"] = [{"name": volume, "emptyDir": {}} for volume in (name, "run")]
        container["volumeMounts"].append({"name": "run", "mountPath": "/var/run/postgresql"})
        container["readinessProbe"] = {"tcpSocket": {"port": 5432}, "periodSeconds": 1}


def install(node: Node) -> None:
    """Install Katib, and wait until it works.

    Raises:
        ServerMissing: its programs were not built.
    """
    built = images()
    for image in built.values():
        node.load(image)
    for kind in ("experiment", "suggestion", "trial"):
        node.api.define(COMPONENTS / "crd" / f"{kind}.yaml")
    # What pods need comes before them: they ask again after seconds only.
    installed = sorted(manifests(built), key=lambda manifest: manifest["kind"] == "Deployment")
    node.api.apply(*(manifest for manifest in installed if "webhooks" not in manifest))
    apps = client.AppsV1Api(node.api.client(ADMIN))

    def works() -> bool:
        found = apps.list_namespaced_deployment(NAMESPACE).items
        return len(found) == 3 and all(item.status.ready_replicas for item in found)

    wait_until(works, READY_SECONDS, lambda: pods_of(node, NAMESPACE))
    # No pod is made in its namespace where nobody answers for them.
    node.api.apply(*(manifest for manifest in installed if "webhooks" in manifest))


def give_packages(node: Node) -> None:
    """Mount the packages of the environment into the container of each trial: here its image has none."""
    name = "packages-of-trials"
    volume = '{name: "packages", persistentVolumeClaim: Object.spec.volumes.persistentVolumeClaim'
    volume += '{claimName: "environment-modelling", readOnly: true}}'
    mount = f'{{name: "packages", mountPath: "{PACKAGES}", readOnly: true}}'
    container = f'{{name: "training", volumeMounts: [Object.spec.containers.volumeMounts{mount}]}}'
    changed = f"Object{{spec: Object.spec{{volumes: [Object.spec.volumes{volume}], "
    changed += f"containers: [Object.spec.containers{container}]}}}}"
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    policy = {
        "matchConstraints": {"resourceRules": [pods]},
        "matchConditions": [
            {"name": "trial", "expression": 'object.spec.containers.exists(part, part.name == "training")'}
        ],
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": changed}}],
    }
    group, api = "admissionregistration.k8s.io", client.CustomObjectsApi(node.api.client(ADMIN))
    parts = {
        "MutatingAdmissionPolicy": ("mutatingadmissionpolicies", policy),
        "MutatingAdmissionPolicyBinding": ("mutatingadmissionpolicybindings", {"policyName": name}),
    }
    for kind, (plural, specification) in parts.items():
        body = {"apiVersion": f"{group}/v1beta1", "kind": kind, "metadata": {"name": name}, "spec": specification}
        api.create_cluster_custom_object(group, "v1beta1", plural, body)


def pods_of(node: Node, namespace: str) -> str:
    """How the pods of a namespace are, for people."""
    found = node.core.list_namespaced_pod(namespace).items
    return "\n".join(f"{pod.metadata.name}: {pod.status.phase} {pod.status.container_statuses}" for pod in found)
