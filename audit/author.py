"""Who acts: the person at this machine, or the service account that a step on a cluster works as."""

from __future__ import annotations

import base64
import getpass
import json
import os
import socket
from pathlib import Path

# Where Kubernetes puts the token of a pod's account.
TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def author(token: Path = TOKEN) -> str:
    """`system:serviceaccount:NAMESPACE:NAME@HOST` in a pod, else `name@host`. It says who acts, and proves nothing."""
    return f"{_account(token) or _person()}@{socket.gethostname()}"


def _account(token: Path) -> str:
    """The subject of a pod's token; empty where there is none that can be read."""
    try:
        payload = token.read_text("ascii").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims["sub"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user may have no name.
        return str(os.getuid())
