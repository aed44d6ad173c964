"""Whether a project's feature definitions can be loaded.

`lifecycle check` runs it under the environment that has Feast; `python -m … PROJECT` prints JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.features.definitions import load_definitions
from kfp_lifecycle.runtime.contract import ContractViolation


def definition_lacks(project: Path) -> list[tuple[str, str]]:
    """Why the definitions cannot be used; empty where they can."""
    configuration = load_configuration(project)
    # Reading them leaves nothing behind in the project.
    sys.dont_write_bytecode = True
    try:
        load_definitions(project / configuration.features.repository, configuration)
    except ContractViolation as violation:
        return [(configuration.features.repository, str(violation))]
    return []


if __name__ == "__main__":
    print(json.dumps(definition_lacks(Path(sys.argv[1]))))
