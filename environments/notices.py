"""Third-party notices (`make notices`): each package of the built environments, with the licence that it declares."""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, distributions

from kfp_lifecycle.environments.locks import STEP_ENVIRONMENTS, environment_directory

NOT_DECLARED = "not declared"


def licence(package: Distribution) -> str:
    """What a package says of its licence: an SPDX expression where it does, else classifiers, else its first line."""

    def said(field: str) -> list[str]:
        return [str(value) for value in package.metadata.get_all(field) or []]

    classifiers = [line.rpartition("::")[2].strip() for line in said("Classifier") if line.startswith("License")]
    first_line = [text.strip().splitlines()[0] for text in said("License") if text.strip()]
    return ", ".join(said("License-Expression") or classifiers or first_line or [NOT_DECLARED])


def notices(environment: str) -> list[str]:
    """A line for each package of an environment: name, version, licence."""
    folders = [str(place) for place in environment_directory(environment).glob("lib/python*/site-packages")]
    found = {each.metadata["Name"]: each for each in distributions(path=folders)}
    return [f"{name} {found[name].version}: {licence(found[name])}" for name in sorted(found, key=str.lower)]


if __name__ == "__main__":
    for chosen in sys.argv[1:] or (*STEP_ENVIRONMENTS, "platform"):
        print(f"# {chosen}")
        print("\n".join(notices(chosen)))
