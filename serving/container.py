"""The container that serves a model on a cluster: its image, what it installs on it, and the program it starts with."""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass

from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving import start_server

IMAGE_VARIABLE = "LIFECYCLE_SERVING_IMAGE"
PACKAGES_VARIABLE = "LIFECYCLE_SERVING_PACKAGES"
# The image's own user; a stock image has none but root, whom clusters refuse.
USER = 1000


@dataclass(frozen=True)
class Container:
    """What a server runs on."""

    image: str
    packages: str = ""
    """One pin a line, to be installed at each start; none where the image holds them."""

    @property
    def command(self) -> list[str]:
        """The program; the server's own arguments follow."""
        return ["python", "-s", "-c", inspect.getsource(start_server)]

    @property
    def variables(self) -> dict[str, str]:
        """What the program is told. A user without a home gets one that can be written."""
        return {PACKAGES_VARIABLE: self.packages, "HOME": "/tmp"} if self.packages else {}


def serving_container() -> Container:
    """The container of the serving environment, as a pipeline compiled for a cluster tells the step.

    Raises:
        ContractViolation: the step was compiled for no cluster.
    """
    image = os.environ.get(IMAGE_VARIABLE, "")
    if not image:
        raise ContractViolation(
            f"this step does not know what a cluster serves from: {IMAGE_VARIABLE} is not set. Compile the pipeline "
            "for a cluster (compile.py --target kubeflow or vertex)."
        )
    return Container(image, os.environ.get(PACKAGES_VARIABLE, ""))
