"""Images are looked for in a real registry (Debian's docker-registry), by the protocol that all of them speak."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kfp_lifecycle.backends.findings import Finding, Found
from kfp_lifecycle.backends.registries import Login, examine_images, images_of, saved_login
from kfp_lifecycle.compilation.pipeline import compile_pipeline
from kfp_lifecycle.runtime.closure import ROOT
from tests.json_service import Answer, Request, json_service
from tests.servers import PASSWORD, registry, running

IMAGE = "ml/kfp-lifecycle-modelling"
LOGIN = ("ada", PASSWORD)
# `htpasswd -B` of LOGIN.
USERS = "ada:$2b$04$Yfha9Tk1q1lV.A/Kn1oXb.z.Ph97/3n8Nv.t.wlVo277a3QwYpuK2\n"


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    """A registry that has IMAGE with the tag `1`, and asks for a password."""
    for there in running(registry(USERS)):
        push(there, IMAGE, "1")
        yield there


def push(host: str, name: str, tag: str) -> str:
    """Push an image of nothing; its digest."""
    with httpx.Client(base_url=f"http://{host}/v2/{name}", auth=LOGIN, trust_env=False) as client:
        config = b"{}"
        digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
        place = client.post("/blobs/uploads/").headers["Location"]
        client.put(place, params={**httpx.URL(place).params, "digest": digest}, content=config).raise_for_status()
        kind = "application/vnd.oci.image.manifest.v1+json"
        of_config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(config)}
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": of_config, "layers": []}
        put = client.put(f"/manifests/{tag}", content=json.dumps(manifest), headers={"Content-Type": kind})
        put.raise_for_status()
        return str(put.headers["Docker-Content-Digest"])


def look(image: str, login: Login | None = LOGIN) -> Finding:
    (found,) = examine_images([image], lambda host: login)
    return found


def test_an_image_that_was_pushed_is_there_and_another_tag_is_not(host: str) -> None:
    assert look(f"{host}/{IMAGE}:1") == Finding(f"the image {host}/{IMAGE}:1", Found.good)
    missing = look(f"{host}/{IMAGE}:2")
    assert (missing.found, missing.detail) == (Found.bad, f"{host} does not have it")
    assert missing.remedy == f"build and push it: make images REGISTRY={host}/ml"
    assert look(f"{host}/ml/kfp-lifecycle-serving:1").found is Found.bad


def test_an_image_is_found_by_its_digest_too(host: str) -> None:
    digest = push(host, IMAGE, "1")
    assert look(f"{host}/{IMAGE}@{digest}").found is Found.good
    assert look(f"{host}/{IMAGE}:1@sha256:{'0' * 64}").found is Found.bad


def test_the_images_of_a_pipeline_s_steps_are_looked_for(host: str, tmp_path: Path) -> None:
    file = tmp_path / "batch_scoring.yaml"
    compile_pipeline("batch_scoring", "kubeflow", ROOT, file, image_registry=f"{host}/ml")
    modelling = next(image for image in images_of([file]) if "modelling" in image)
    push(host, IMAGE, modelling.rpartition(":")[2])
    findings = {finding.what: finding.found for finding in examine_images(images_of([file]), lambda host: LOGIN)}
    assert findings.pop(f"the image {modelling}") is Found.good
    assert set(findings.values()) == {Found.bad}
    assert {name.rpartition("-lifecycle-")[2].partition(":")[0] for name in findings} == {"platform", "validation"}


def test_who_is_not_known_there_is_told_to_log_in_and_nothing_is_missing(host: str) -> None:
    for login in (None, ("ada", "another")):
        refused = look(f"{host}/{IMAGE}:1", login)
        assert (refused.found, refused.detail) == (Found.unknown, f"{host} does not let this account look (401)")
        assert refused.remedy.startswith(f"log in, docker login {host}")


def test_a_registry_that_gives_tokens_is_asked_with_one() -> None:
    """As Docker's, GitHub's and GitLab's: the password goes to the server that the challenge names."""

    def answer(request: Request) -> Answer:
        if request.path.startswith("/token"):
            password = base64.b64encode(":".join(LOGIN).encode()).decode()
            assert request.headers["Authorization"] == f"Basic {password}"
            assert request.path == f"/token?scope=repository%3A{IMAGE.replace('/', '%2F')}%3Apull&service=images"
            return Answer({"token": "short-lived"})
        if request.headers.get("Authorization") != "Bearer short-lived":
            challenge = f'Bearer realm="http://{request.headers["Host"]}/token",service="images"'
            return Answer(status=401, headers={"WWW-Authenticate": challenge})
        return Answer(status=200 if request.path == f"/v2/{IMAGE}/manifests/1" else 404)

    with json_service(answer) as url:
        there = url.removeprefix("http://")
        assert look(f"{there}/{IMAGE}:1").found is Found.good
        assert look(f"{there}/{IMAGE}:2").found is Found.bad


def test_a_registry_that_does_not_answer_is_told_once_and_what_names_none_is_left_to_the_cluster() -> None:
    images = ["python:3.11-slim", "127.0.0.1:9/ml/a:1", "127.0.0.1:9/ml/b:1"]
    (silent,) = examine_images(images, lambda host: None)
    assert (silent.what, silent.found) == ("the registry 127.0.0.1:9 answers", Found.unknown)
    assert "Connection refused" in silent.detail


def test_who_asks_is_who_logged_in_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert saved_login("registry.example") is None
    saved = tmp_path / "containers" / "auth.json"
    saved.parent.mkdir()
    auth = base64.b64encode(":".join(LOGIN).encode()).decode()
    saved.write_text(json.dumps({"auths": {"registry.example": {"auth": auth}}}))
    assert saved_login("registry.example") == LOGIN
    assert saved_login("another.example") is None
    helper = tmp_path / "docker-credential-keys"
    helper.write_text('#!/bin/sh\nread host\nprintf \'{"Username": "helped", "Secret": "%s"}\' "$host"\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"credHelpers": {"keys.example": "keys"}}))
    assert saved_login("keys.example") == ("helped", "keys.example")
    assert saved_login("registry.example") == LOGIN
