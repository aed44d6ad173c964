"""A node for all tests of this folder, and a namespace for each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.kubernetes_node.node import Node, NotPossible, kubernetes_node
from tests.kubernetes_node.pods import Namespace, new_namespace
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


@pytest.fixture
def namespace(node: Node) -> Iterator[Namespace]:
    with new_namespace(node) as made:
        yield made
