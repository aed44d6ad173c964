"""Whether a project's feature definitions can be loaded, and its estimators made.

`lifecycle check` runs it under the environment that has Feast and scikit-learn; `python -m … PROJECT` prints JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.tuning import Engine, estimators_of, space_of
from kfp_lifecycle.features.definitions import load_definitions
from kfp_lifecycle.modelling.estimator import build_estimator
from kfp_lifecycle.runtime.contract import ContractViolation


def definition_lacks(project: Path) -> list[tuple[str, str]]:
    """Why the definitions or the estimators cannot be used; empty where they can."""
    configuration = load_configuration(project)
    found = []
    if not configuration.features.tables:
        # Reading them leaves nothing behind in the project.
        sys.dont_write_bytecode = True
        try:
            load_definitions(project / configuration.features.repository, configuration)
        except ContractViolation as violation:
            found.append((configuration.features.repository, str(violation)))
    return found + estimator_lacks(configuration)


def estimator_lacks(configuration: Configuration) -> list[tuple[str, str]]:
    """Why an estimator that is trained or searched for cannot be made with the parameters that are named for it."""
    training, space = configuration.training, configuration.tuning.space
    paths = dict.fromkeys([training.estimator, *estimators_of(space)])
    found = []
    for path in paths:
        given = training.parameters if path == training.estimator else {}
        searched = space_of(path, space) if configuration.tuning.engine is not Engine.none else []
        try:
            build_estimator(path, {**given, **dict.fromkeys(searched)}, training.seed)
        except ContractViolation as violation:
            where, _, what = str(violation).partition(": ")
            found.append((where, what))
    return found


if __name__ == "__main__":
    print(json.dumps(definition_lacks(Path(sys.argv[1]))))
