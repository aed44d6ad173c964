"""Images in their registries, asked by the registries' own API (OCI Distribution Specification, `/v2/`)."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

import requests

from kfp_lifecycle.backends.findings import Finding, Found
from kfp_lifecycle.compilation.workflow_size import read_pipeline

# Seconds to connect, and to wait for an answer.
TIMEOUT = (5, 15)
# An image that names no registry comes from the cluster's default one, which often is a mirror: it is not asked.
IMAGE = re.compile(r"(?P<host>[^/]*[.:][^/]*|localhost)/(?P<name>[^:@]+)(:(?P<tag>[^@]+))?(@(?P<digest>.+))?", re.ASCII)
# Manifests of one platform and of several, as Docker and OCI write them.
MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2",
        "docker.distribution.manifest.v2",
    )
)
# What Docker's own registry is called in images, and where it answers.
DOCKER_HUB = {"docker.io": "registry-1.docker.io"}
# Registries that are asked without encryption, as by Docker.
HERE = ("localhost", "127.0.0.1")

Login = tuple[str, str]
"""User and password, or what stands for one."""


def examine_images(images: Iterable[str], login: Callable[[str], Login | None]) -> Iterator[Finding]:
    """Whether images can be had from their registries.

    Args:
        images: As pods name them.
        login: Who asks a registry, by its host; None where nobody is known there.
    """
    named = sorted({image: found for image in images if (found := IMAGE.fullmatch(image))}.items())
    for host, of_host in groupby(named, lambda item: item[1]["host"]):
        registry = _Registry(host, login)
        try:
            for image, parts in of_host:
                yield registry.look(image, parts["name"], parts["digest"] or parts["tag"] or "latest")
        except requests.RequestException as error:
            yield Finding(
                f"the registry {host} answers",
                Found.unknown,
                str(error)[:300],
                "from here it does not; see that the machines of the cluster reach it, and that it is the right one",
            )


class _Registry:
    """A registry, asked as somebody.

    Args:
        host: Its host, with a port where it has one.
        login: Who asks.
    """

    def __init__(self, host: str, login: Callable[[str], Login | None]) -> None:
        scheme = "http" if host.partition(":")[0] in HERE else "https"
        self._host, self._login = host, login
        self._url = f"{scheme}://{DOCKER_HUB.get(host, host)}/v2"
        self._session = requests.Session()

    def look(self, image: str, name: str, reference: str) -> Finding:
        """Look for an image.

        Raises:
            requests.RequestException: the registry does not answer.
        """
        what = f"the image {image}"
        answer = self._ask(name, reference, None)
        if answer.status_code == 401:
            answer = self._ask(name, reference, self._authorization(name, answer.headers.get("WWW-Authenticate", "")))
        status = answer.status_code
        if status == 200:
            return Finding(what, Found.good)
        if status == 404:
            prefix, ours, _ = image.partition("/kfp-lifecycle-")
            remedy = f"build and push it: make images REGISTRY={prefix}" if ours else "see its name in pipeline.yaml"
            return Finding(what, Found.bad, f"{self._host} does not have it", remedy)
        if status in (401, 403):
            remedy = f"log in, docker login {self._host}; what the cluster pulls with may see it all the same"
            return Finding(what, Found.unknown, f"{self._host} does not let this account look ({status})", remedy)
        return Finding(what, Found.unknown, f"{self._host} answers {status}", "ask again later")

    def _ask(self, name: str, reference: str, authorization: str | None) -> requests.Response:
        headers = {"Accept": MANIFESTS, **({"Authorization": authorization} if authorization else {})}
        url = f"{self._url}/{name}/manifests/{reference}"
        return self._session.request("HEAD", url, headers=headers, timeout=TIMEOUT, allow_redirects=True)

    def _authorization(self, name: str, challenge: str) -> str | None:
        """What a registry wants to see, by its challenge: a password, or a token that another server gives for one."""
        login = self._login(self._host)
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            return f"Basic {base64.b64encode(':'.join(login).encode()).decode()}" if login else None
        asked = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if kind.lower() != "bearer" or "realm" not in asked:
            return None
        query = {"scope": f"repository:{name}:pull"} | ({"service": asked["service"]} if "service" in asked else {})
        given = self._session.get(asked["realm"], params=query, auth=login, timeout=TIMEOUT)
        if not given.ok:
            return None
        told = given.json()
        return f"Bearer {told.get('token') or told.get('access_token')}"


def images_of(compiled: Iterable[Path]) -> set[str]:
    """The images that the steps of compiled pipelines run on."""
    executors = [
        executor for file in compiled for executor in read_pipeline(file)["deploymentSpec"]["executors"].values()
    ]
    return {str(executor["container"]["image"]) for executor in executors if "container" in executor}


def saved_login(host: str) -> Login | None:
    """Who is logged in to a registry here by `docker login`, `podman login` or a credential helper."""
    for file in _login_files():
        if not file.is_file():
            continue
        saved = json.loads(file.read_text("utf-8"))
        if helper := saved.get("credHelpers", {}).get(host) or saved.get("credsStore"):
            return _helped(helper, host)
        if text := saved.get("auths", {}).get(host, {}).get("auth"):
            user, _, password = base64.b64decode(text).decode().partition(":")
            return user, password
    return None


def _login_files() -> Iterator[Path]:
    yield Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers" / "auth.json"


def _helped(helper: str, host: str) -> Login | None:
    """Ask a credential helper (https://github.com/docker/docker-credential-helpers)."""
    command = [f"docker-credential-{helper}", "get"]
    try:
        told = subprocess.run(command, input=host, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    answer = json.loads(told)
    return answer["Username"], answer["Secret"]
