"""Secrets in a source's URL: known to the driver for the moment of reading, and to nobody else."""

from __future__ import annotations

import base64
import html
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote_plus

from kfp_lifecycle.config.data import SECRET_PARAMETERS, SECRET_REFERENCE
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.secret_manager import resolve_references

# Where a Kubernetes secret is mounted, a file for each of its keys; `LIFECYCLE_SECRETS` names another folder.
SECRETS_FOLDER = "/var/run/secrets/lifecycle"
BASE64 = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")
# A shorter one would be found in many a word.
SHORTEST_IN_BASE64 = 4
# In any text: what stands between the user and the host of a URL, and the parameters of one.
USER_AND_PASSWORD = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s/:@?#]*:)([^\s@]+)@")
PARAMETER = re.compile(r"([?&;])([A-Za-z0-9_.%-]+)=([^&;#\s'\"<>()]+)")


@dataclass(frozen=True)
class Revealed:
    """A URL with its secrets in place, and what it takes to hide them again."""

    url: str
    secrets: dict[str, str]
    """Value by name."""

    def __repr__(self) -> str:
        return f"Revealed({self.hide(self.url)!r})"

    def hide(self, text: str) -> str:
        """A text, such as a driver's error, without any secret.

        `${NAME}` takes the place of each one in every spelling: libraries write a URL anew, in part or twice over. What
        stands where a URL has a password or a token is hidden too, whatever it is.
        """
        # The longest first, so that a secret which is part of another leaves nothing of that one behind.
        ordered = sorted(self.secrets.items(), key=lambda secret: -len(secret[1]))
        for name, value in ordered:
            # No replacement's text: a backslash or a group in it would be taken for one.
            pieces = re.split(_spellings(value), text, flags=re.IGNORECASE)
            text = f"${{{name}}}".join(pieces)
        text = BASE64.sub(lambda match: _without_encoded(match[0], ordered), text)
        text = USER_AND_PASSWORD.sub(lambda match: f"{match[1]}{_hidden(match[2])}@", text)
        return PARAMETER.sub(
            lambda match: (
                f"{match[1]}{match[2]}={_hidden(match[3])}"
                if SECRET_PARAMETERS.fullmatch(unquote_plus(match[2]))
                else match[0]
            ),
            text,
        )


def reveal(url: str) -> Revealed:
    """Put secrets in the place of each `${NAME}` of a URL, written as a URL writes them.

    A name is looked up in the environment, where it may be a reference to Secret Manager, then as a file of that name
    in `/var/run/secrets/lifecycle`.

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


def _spellings(secret: str) -> str:
    """A pattern for a text in which each letter may be written as itself, or as some encoding writes it."""
    return "".join(f"(?:{'|'.join(_forms(letter))})" for letter in secret)


def _forms(letter: str) -> list[str]:
    percent = "".join(f"%(?:25)*{byte:02X}" for byte in letter.encode())
    code = ord(letter)
    forms = [
        percent,
        rf"\\+u{code:04x}",
        rf"\\+x{code:02x}",
        rf"\\*{re.escape(letter)}",
        f"&#0*{code};",
        f"&#x0*{code:x};",
    ]
    named = html.escape(letter)
    return [*forms, *([re.escape(named)] if named != letter else []), *([r"\+"] if letter == " " else [])]


def _without_encoded(token: str, secrets: list[tuple[str, str]]) -> str:
    """A token, unless it is the base64 of something that holds a secret, such as a header with user and password."""
    standard = token.replace("-", "+").replace("_", "/").rstrip("=")
    # An odd letter at the end is none of a whole byte's.
    usable = standard[: len(standard) - (len(standard) % 4 == 1)]
    decoded = base64.b64decode(usable + "=" * (-len(usable) % 4))
    for name, value in secrets:
        if len(value) >= SHORTEST_IN_BASE64 and value.encode() in decoded:
            return f"${{{name}}}"
    return token


def _hidden(value: str) -> str:
    return value if SECRET_REFERENCE.fullmatch(value) else "***"


def _folder() -> Path:
    return Path(os.environ.get("LIFECYCLE_SECRETS", SECRETS_FOLDER))


def _look_up(name: str) -> str:
    if name in os.environ:
        # A step has resolved its references when it began; a server does where it needs them.
        resolve_references()
        return os.environ[name]
    file = _folder() / name
    return file.read_text(encoding="utf-8").rstrip("\n") if file.is_file() else ""
