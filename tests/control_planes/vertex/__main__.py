"""`python -m tests.control_planes.vertex`: the stand-in, until it is interrupted."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from tests.control_planes.vertex.stand_in import VertexStandIn


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description="A Vertex AI Pipelines for tests, that really runs what it is given.")
    parser.add_argument("--folder", type=Path, required=True, help="for its state and what runs leave")
    parser.add_argument("--objects", type=Path, help="folder that stands for Cloud Storage")
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    with VertexStandIn(given.folder, objects=given.objects, port=given.port) as server:
        print(server.url, flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main()
