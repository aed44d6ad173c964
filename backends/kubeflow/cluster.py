"""Kubernetes itself, where this machine may ask it: by the account of a pod, or the kubeconfig that kubectl reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kfp_lifecycle.backends.backend import BackendError

# Seconds that it may take to answer.
TIMEOUT = 10


def kubernetes_api() -> Any:
    """A client of the cluster's API server. A kubeconfig's own command gives the credentials where it names one.

    Raises:
        BackendError: nothing here says where it is, or who asks.
    """
    try:
        import kubernetes
    except ModuleNotFoundError as missing:
        raise BackendError("Kubernetes' client is not installed here: pip install kubernetes") from missing
    try:
        try:
            kubernetes.config.load_incluster_config()
        except kubernetes.config.ConfigException:
            kubernetes.config.load_kube_config()
        return kubernetes.client.ApiClient()
    except Exception as error:
        raise BackendError(f"no kubeconfig here ({error})") from error


def ask(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Ask the API server.

    Raises:
        Absent: what was asked for is not there.
        BackendError: it refuses, or does not answer.
    """
    from kubernetes.client.exceptions import ApiException

    try:
        return call(*arguments, _request_timeout=TIMEOUT, **named)
    except ApiException as error:
        if error.status == 404:
            raise Absent("it is not there") from error
        raise BackendError(f"Kubernetes says {error.status}: {error.reason}") from error
    except Exception as error:
        raise BackendError(f"Kubernetes does not answer: {str(error)[:300]}") from error


class Absent(BackendError):
    """There is no such object, or no such kind."""
