"""A node for all tests of this folder, and a namespace for each."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest

from tests.kubernetes_node.node import Node, NotPossible, kubernetes_node
from tests.kubernetes_node.pods import Namespace, new_namespace
from tests.node.environment_images import ENVIRONMENTS, build_images
from tests.node.stores import Stores, deployed_stores
from tests.node.training_run import TrainingRun, training_run
from tests.servers import ServerMissing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """To start a node takes ten seconds."""
    for item in items:
        if "node" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    with contextlib.ExitStack() as stack:
        try:
            started = stack.enter_context(kubernetes_node())
        except ServerMissing as missing:
            # A machine may have no root to give; what .ci/run installs and builds is there where it ran.
            if os.environ.get("CI") and not isinstance(missing, NotPossible):
                raise
            pytest.skip(str(missing))
        yield started


@pytest.fixture(scope="session")
def platform_image(node: Node) -> str:
    """The image of what needs no library of a step, on the node."""
    (name,) = build_images(["platform"])
    node.load(name)
    return name


@pytest.fixture(scope="session")
def images(node: Node, platform_image: str) -> list[str]:
    """The images of the environments, on the node."""
    names = build_images(ENVIRONMENTS)
    for name in names:
        if name != platform_image:
            node.load(name)
    return names


@pytest.fixture(scope="session")
def training(node: Node, images: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingRun]:
    """A training run, up to the release that its account may not make."""
    with training_run(node, tmp_path_factory.mktemp("training")) as run:
        yield run


@pytest.fixture(scope="session")
def stores(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """The stores that `deploy/` brings, with its accounts and rights, in a namespace."""
    if (kubectl := shutil.which("kubectl")) is None:
        pytest.skip("there is no kubectl on this machine, which holds kustomize")
    with deployed_stores(node, tmp_path_factory.mktemp("stores"), kubectl) as made:
        yield made


@pytest.fixture
def namespace(node: Node) -> Iterator[Namespace]:
    with new_namespace(node) as made:
        yield made
