"""Stand-in for Vertex AI Pipelines: speaks its REST protocol to Google's own client, and runs what it is given."""

from tests.control_planes.kubeflow.faults import Fault
from tests.control_planes.vertex.stand_in import VertexStandIn

__all__ = ["Fault", "VertexStandIn"]
