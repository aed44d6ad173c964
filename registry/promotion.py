"""`python -m kfp_lifecycle.registry.promotion URI`: the champion's alias follows what serves.

MLflow takes longer to import than traffic to move. So whoever moves traffic begins this beside it, and gives it a line
of JSON once the traffic has moved: model, the version that serves, the one that did, where the audit
record is. Without a line nothing moves.
"""

from __future__ import annotations

import atexit
import gc
import json
import sys
from collections.abc import Sequence

from kfp_lifecycle.registry.anchors import record_promotion
from kfp_lifecycle.registry.tracking import connect
from kfp_lifecycle.registry.versions import set_champion
from kfp_lifecycle.runtime.contract import ContractViolation


def main(arguments: Sequence[str]) -> None:
    """Connect, wait for the line, and move the alias; an empty last version is no champion so far."""
    # Looking for garbage, while everything is imported and at the end, is a third of this short process.
    gc.disable()
    atexit.register(gc.freeze)
    [tracking_uri] = arguments
    try:
        connect(tracking_uri)
        line = sys.stdin.readline()
        if line:
            model, version, expected, audit = json.loads(line)
            before = set_champion(tracking_uri, model, version, expected or None)
            record_promotion(tracking_uri, audit, model, version, before)
            print(before or "")
    except ContractViolation as violation:
        sys.exit(" ".join(str(violation).split()))


if __name__ == "__main__":
    main(sys.argv[1:])
