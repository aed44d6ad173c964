"""Rollback of a model on KServe, in the mode that its service has."""

from __future__ import annotations

from typing import Any

from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.release.kserve import inference_service, standard
from kfp_lifecycle.serving.release.kserve.live_service import STANDARD, LiveService, mode_of
from kfp_lifecycle.serving.release.traffic import Return


def return_traffic(namespace: str, model: str, **connection: Any) -> Return:
    """Give all traffic to the version before this one; the two change places, so a second rollback undoes the first.

    Args:
        namespace: Where the model is served.
        model: Its name.
        connection: More for `KServeClient`, such as `config_file`.

    Raises:
        ContractViolation: it is not served there, there is no version to return to, or the traffic does not move.
    """
    live = LiveService(namespace, model, **connection)
    service = live.read()
    if service is None:
        raise ContractViolation(
            f"{model} is not released in the namespace {namespace}. Look for it with "
            "`kubectl get inferenceservices --all-namespaces`."
        )
    if mode_of(service) == STANDARD:
        return standard.return_traffic(live)
    return inference_service.return_traffic(live)
