"""`python -m tests.control_planes.vertex`: the stand-in, until it is interrupted."""

from __future__ import annotations

from tests.control_planes.stand_in import serve_until_interrupted
from tests.control_planes.vertex.stand_in import VertexStandIn

if __name__ == "__main__":
    serve_until_interrupted(VertexStandIn, "Vertex AI Pipelines")
