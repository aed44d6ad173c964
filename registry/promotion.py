"""`python -m kfp_lifecycle.registry.promotion URI MODEL VERSION EXPECTED`: the champion's alias follows what serves."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kfp_lifecycle.registry.versions import set_champion
from kfp_lifecycle.runtime.contract import ContractViolation


def main(arguments: Sequence[str]) -> None:
    """Move the alias; an empty `EXPECTED` is no champion so far."""
    tracking_uri, model, version, expected = arguments
    try:
        before = set_champion(tracking_uri, model, version, expected or None)
    except ContractViolation as violation:
        sys.exit(" ".join(str(violation).split()))
    print(before or "")


if __name__ == "__main__":
    main(sys.argv[1:])
