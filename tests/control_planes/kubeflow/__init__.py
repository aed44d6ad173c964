"""Stand-in for the Kubeflow Pipelines API server: speaks its wire protocol, and really runs what it is given."""

from tests.control_planes.kubeflow.control_plane import Settings, User
from tests.control_planes.kubeflow.faults import Fault
from tests.control_planes.kubeflow.stand_in import KubeflowStandIn

__all__ = ["Fault", "KubeflowStandIn", "Settings", "User"]
