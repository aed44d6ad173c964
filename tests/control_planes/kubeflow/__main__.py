"""`python -m tests.control_planes.kubeflow`: the stand-in, until it is interrupted."""

from __future__ import annotations

from tests.control_planes.kubeflow.stand_in import KubeflowStandIn
from tests.control_planes.stand_in import serve_until_interrupted

if __name__ == "__main__":
    serve_until_interrupted(KubeflowStandIn, "Kubeflow Pipelines")
