"""Third-party notices (`make notices`): each package of the built environments, with the licence that it declares."""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, distributions

from kfp_lifecycle.environments.locks import STEP_ENVIRONMENTS, environment_directory


def licence(package: Distribution) -> str:
    """What a package says of its licence: SPDX where it does, else its classifiers, else its first words."""
    about = package.metadata
    declared = about.get("License-Expression")
    classifiers = [line.rpartition("::")[2].strip() for line in about.get_all("Classifier") or [] if "License" in line]
    free = (about.get("License") or "").strip().splitlines()
    return declared or ", ".join(classifiers) or (free[0] if free else "not declared")


def notices(environment: str) -> list[str]:
    """A line for each package of an environment: name, version, licence."""
    folders = [str(place) for place in environment_directory(environment).glob("lib/python*/site-packages")]
    found = {each.metadata["Name"]: each for each in distributions(path=folders)}
    return [f"{name} {found[name].version}: {licence(found[name])}" for name in sorted(found, key=str.lower)]


if __name__ == "__main__":
    for chosen in sys.argv[1:] or (*STEP_ENVIRONMENTS, "platform"):
        print(f"# {chosen}")
        print("\n".join(notices(chosen)))
