"""Known vulnerabilities (`make audit`): pip-audit over every lock, beside those that `docs/security.md` answers.

Options are pip-audit's own: `python -m kfp_lifecycle.environments.audit -s osv` asks another database.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from kfp_lifecycle.environments.lock import GROUPS
from kfp_lifecycle.environments.locks import HERE

PAGE = HERE.parent / "docs" / "security.md"
_ROW = re.compile(r"^\| `(?P<pin>[^`]+==[^`]+)` \| (?P<locks>[^|]+) \| (?P<advisories>[^|]+) \|", re.MULTILINE)


@dataclass(frozen=True)
class Known:
    """A package with known vulnerabilities that the page answers."""

    pin: str
    """`package==version`, as the locks have it."""
    locks: tuple[str, ...]
    advisories: tuple[str, ...]


def known_vulnerabilities() -> list[Known]:
    """The rows of the page's table."""
    found = []
    for row in _ROW.finditer(PAGE.read_text("utf-8")):
        locks, advisories = (tuple(part.strip() for part in row[name].split(",")) for name in ("locks", "advisories"))
        found.append(Known(row["pin"], locks, advisories))
    return found


def audit(lock: str, options: Sequence[str] = ()) -> bool:
    """Ask for the vulnerabilities of a lock, and print those that the page does not answer.

    Returns:
        Whether there is none. False too where the database did not know a package, or could not be asked.
    """
    answered = [each for known in known_vulnerabilities() if lock in known.locks for each in known.advisories]
    command = [sys.executable, "-m", "pip_audit", "--strict", "--disable-pip", "--requirement", f"{HERE / lock}.txt"]
    command += [part for advisory in answered for part in ("--ignore-vuln", advisory)]
    command += ["--desc", "off", "--progress-spinner", "off", *options]
    return subprocess.run(command, check=False).returncode == 0


def main(options: Sequence[str]) -> int:
    """The command line: exit code 0 when no lock has a vulnerability that the page does not answer."""
    found = []
    for lock in GROUPS:
        print(f"# {lock}", flush=True)
        if not audit(lock, options):
            found.append(lock)
    if found:
        remedy = "Renew the lock, or answer what was found in docs/security.md."
        print(f"error: the lines above say what is wrong with {', '.join(found)}. {remedy}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
