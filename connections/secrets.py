"""Secrets in a source's URL: known to the driver for the moment of reading, and to nobody else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

from kfp_lifecycle.config.data import SECRET_REFERENCE
from kfp_lifecycle.runtime.contract import ContractViolation

# Where a Kubernetes secret is mounted, a file for each of its keys; `LIFECYCLE_SECRETS` names another folder.
SECRETS_FOLDER = "/var/run/secrets/lifecycle"


@dataclass(frozen=True)
class Revealed:
    """A URL with its secrets in place, and what it takes to hide them again."""

    url: str
    secrets: dict[str, str]
    """Value by name."""

    def __repr__(self) -> str:
        return f"Revealed({self.hide(self.url)!r})"

    def hide(self, text: str) -> str:
        """A text, such as a driver's error, with `${NAME}` in place of every secret, however it is written."""
        # The longest first, so that a secret which is part of another leaves nothing of that one behind.
        for name, value in sorted(self.secrets.items(), key=lambda secret: -len(secret[1])):
            for form in (value, quote(value, safe=""), quote_plus(value), repr(value)[1:-1]):
                text = text.replace(form, f"${{{name}}}")
        return text


def reveal(url: str) -> Revealed:
    """Put secrets in the place of each `${NAME}` of a URL, written as a URL writes them.

    A name is looked up in the environment, then as a file of that name in `/var/run/secrets/lifecycle`.

    Raises:
        ContractViolation: a name is in neither, or empty.
    """
    names = list(dict.fromkeys(SECRET_REFERENCE.findall(url)))
    secrets = {name: _look_up(name) for name in names}
    missing = [name for name, value in secrets.items() if not value]
    if missing:
        raise ContractViolation(
            f"{url} needs {', '.join(missing)}, which the environment does not have, nor {_folder()}. Set it where the "
            f"step runs, or mount the Kubernetes secret that holds it there."
        )
    return Revealed(SECRET_REFERENCE.sub(lambda match: quote(secrets[match[1]], safe=""), url), secrets)


def _folder() -> Path:
    return Path(os.environ.get("LIFECYCLE_SECRETS", SECRETS_FOLDER))


def _look_up(name: str) -> str:
    if name in os.environ:
        return os.environ[name]
    file = _folder() / name
    return file.read_text(encoding="utf-8").rstrip("\n") if file.is_file() else ""
