"""Secrets of a version's server: which variables it needs to hold them, wherever it runs."""

from __future__ import annotations

from kfp_lifecycle.config.data import SECRET_REFERENCE
from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.connections.object_store import CREDENTIALS, is_object_store


def server_variables(deployment: Deployment, online_store: str, prediction_log: str) -> tuple[str, ...]:
    """Names of the variables, each once; those of an object store's credentials may be unset.

    Args:
        deployment: Who may ask, and what is logged.
        online_store: Its place, which may name `${VARIABLE}`s.
        prediction_log: Its place.
    """
    wanted = (
        *SECRET_REFERENCE.findall(online_store),
        *deployment.server.variables(),
        *(CREDENTIALS if is_object_store(prediction_log) else ()),
        *deployment.prediction_log.variables(),
    )
    return tuple(dict.fromkeys(wanted))
