"""A node for all tests of this folder, and a namespace for each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.kubernetes_node.node import Node, NotPossible, kubernetes_node
from tests.kubernetes_node.pods import Namespace, new_namespace
from tests.node.environment_images import build_images
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
def images(node: Node) -> list[str]:
    """The images of the environments, on the node."""
    names = build_images()
    for name in names:
        node.load(name)
    return names


@pytest.fixture(scope="session")
def training(node: Node, images: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingRun]:
    """A training run, up to the release that its account may not make."""
    with training_run(node, tmp_path_factory.mktemp("training")) as run:
        yield run


@pytest.fixture
def namespace(node: Node) -> Iterator[Namespace]:
    with new_namespace(node) as made:
        yield made
