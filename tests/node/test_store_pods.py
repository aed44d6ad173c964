"""Stores of `deploy/` in real pods (`stores.py`)."""

from __future__ import annotations

import socket

import httpx
import pytest

from tests.node.stores import STORES, Stores
from tests.servers import PASSWORD

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("store", STORES)
def test_a_store_is_ready_in_a_restricted_pod_that_has_no_token(stores: Stores, store: str) -> None:
    pod = stores.pod(store)
    assert stores.is_ready(store)
    assert pod.spec.security_context.run_as_non_root
    assert not [volume.name for volume in pod.spec.volumes if volume.name.startswith("kube-api-access")]
    assert all(container.security_context.read_only_root_filesystem for container in pod.spec.containers)
    assert [status.restart_count for status in pod.status.container_statuses] == [0]


def test_mlflow_remembers_what_it_was_told_when_its_pod_and_its_databases_are_new(stores: Stores) -> None:
    experiments, named = "/api/2.0/mlflow/experiments", {"Host": f"mlflow.{stores.namespace.name}:5000"}
    place = "/api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/model.json"

    def client() -> httpx.Client:
        url = f"http://{stores.address('mlflow')}:5000"
        return httpx.Client(base_url=url, trust_env=False, timeout=120, headers=named)

    with client() as mlflow:
        created = mlflow.post(f"{experiments}/create", json={"name": "churn"})
        assert created.status_code == 200, created.text
        assert mlflow.put(place, content=b"{}").status_code == 200
    stores.replace("postgresql")
    stores.replace("mlflow")
    with client() as mlflow:
        found = mlflow.get(f"{experiments}/get-by-name", params={"experiment_name": "churn"})
        assert found.json()["experiment"]["experiment_id"] == created.json()["experiment_id"]
        assert mlflow.get(place).content == b"{}"


def test_redis_asks_for_the_password_and_a_new_pod_has_what_the_old_one_was_told(stores: Stores) -> None:
    assert redis(stores, "GET a").startswith("-NOAUTH")
    login = f'AUTH "{PASSWORD}"'
    assert redis(stores, login, "SET a 1") == "+OK\r\n+OK\r\n"
    stores.replace("redis")
    assert redis(stores, login, "GET a") == "+OK\r\n$1\r\n1\r\n"


def redis(stores: Stores, *commands: str) -> str:
    """What Redis answers to commands."""
    with socket.create_connection((stores.address("redis"), 6379), timeout=120) as caller:
        caller.sendall("".join(f"{command}\r\n" for command in (*commands, "QUIT")).encode())
        return b"".join(iter(lambda: caller.recv(65536), b"")).decode().removesuffix("+OK\r\n")
