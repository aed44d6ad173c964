"""Request for retraining: handed to the target's own client, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from kfp_lifecycle.artifacts.remedy import Remedy
from kfp_lifecycle.artifacts.retraining_request import RetrainingRequest
from kfp_lifecycle.monitoring.retraining_policy import TRAINED
from kfp_lifecycle.runtime.contract import ContractViolation

# What speaks to targets: above this room, so by its name. It travels with the component.
STARTER = "kfp_lifecycle.backends.retraining"


def ask_for_retraining(asking: str, remedy: Path, request: Path) -> RetrainingRequest:
    """Write the request that a remedy leads to, and start what the policy says.

    Args:
        asking: What the starter reads on its standard input.
        remedy: What `decide_remedy` wrote.
        request: JSON file that the starter writes.

    Raises:
        ContractViolation: there is no remedy, or it is none that a training carries out; or the target cannot be
            asked, or cannot start the run.
    """
    found = Remedy.read(remedy)
    if found.remedy not in TRAINED:
        raise ContractViolation(
            f"{remedy} says `{found.remedy}`: {found.sentence} A training carries out {', '.join(sorted(TRAINED))}."
        )
    # Where steps run, kfp leaves its client out.
    environment = {name: value for name, value in os.environ.items() if name != "_KFP_RUNTIME"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", STARTER],
        input=asking,
        text=True,
        capture_output=True,
        env=environment,
        check=False,
    )
    print(done.stdout, done.stderr, sep="", flush=True)
    if done.returncode:
        raise ContractViolation(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"{STARTER} failed")
    return RetrainingRequest.read(request)
