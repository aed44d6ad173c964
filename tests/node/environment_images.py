"""Images of the environments, as compiled pipelines name them.

That of `serving` is built of `environments/Dockerfile` as it is. The others have the same base, user, variables and the
library's wheel, and take the packages of their lock from the environment that was built here, by a claim. To build them
is too much for each run of the tests: `modelling` by the Dockerfile, all its 202 packages fetched in 40 s, took 520 s
beside other work on two cores (bytecode and layer) and is an archive of 2.3 GB, which the node then unpacks;
`validation`, with TensorFlow, is half as large again. What that leaves untested is the Dockerfile's installation of
their locks into an image, which is the same lines for each.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from kfp_lifecycle.compilation.code import library_digest
from kfp_lifecycle.compilation.images import build_image, build_wheel
from kfp_lifecycle.compilation.target import Target
from kfp_lifecycle.environments.locks import interpreter, lock_digest
from tests.kubernetes_node.images import BUILDAH, VARIABLES, base_image, build, buildah, is_there

REGISTRY = "registry.example/ml"
# Those that a training pipeline needs, with Katib or without, and the one of them that is built whole.
ENVIRONMENTS, BUILT = ("katib", "modelling", "platform", "serving", "validation"), "serving"
PACKAGES = "/environment"


def image_of(environment: str) -> str:
    """An environment's image, as pipelines that are compiled with REGISTRY name it."""
    target = Target("kubeflow", "image", image_registry=REGISTRY, library_digest=library_digest())
    return target.image(environment)


def build_images(environments: Sequence[str]) -> list[str]:
    """Build what is not there yet of the images of environments, and remove all those of older code; their names."""
    names = {environment: image_of(environment) for environment in environments}
    there = buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines()
    for old in {image for image in there if image.startswith(REGISTRY)} - set(map(image_of, ENVIRONMENTS)):
        buildah("rmi", old)
    missing = {environment: name for environment, name in names.items() if not is_there(name)}
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder)) if missing else Path()
        for environment, name in missing.items():
            if environment == BUILT:
                # As `make images` does.
                with pytest.MonkeyPatch.context() as patch:
                    for variable, value in VARIABLES.items():
                        patch.setenv(variable, value)
                    build_image(environment, name, wheel, BUILDAH, base_image())
            else:
                build(name, thin_image(environment, wheel), [wheel])
    return list(names.values())


def thin_image(environment: str, wheel: Path) -> str:
    """What the Dockerfile says of an image, but for its packages."""
    return f"""FROM {base_image()}
RUN useradd --create-home --uid 1000 lifecycle
WORKDIR /home/lifecycle
COPY {wheel.name} /wheels/
RUN pip install --no-cache-dir --no-deps /wheels/{wheel.name}
ENV LIFECYCLE_ENVIRONMENT={environment}-{lock_digest(environment)}
ENV PYTHONUNBUFFERED=1 PYTHONPATH={PACKAGES}/lib/python3.11/site-packages
USER 1000
"""


def volume_of(image: str) -> tuple[str, str] | None:
    """Claim, and where it is mounted, of an image that has its packages from there."""
    found = re.search(r"/kfp-lifecycle-(?P<environment>[a-z]+):", image)
    if found is None or found["environment"] == BUILT:
        return None
    return f"environment-{found['environment']}", PACKAGES


def environment_folder(environment: str) -> Path:
    """Where an environment was built here."""
    return interpreter(environment).parents[1]
