"""Configuration of targets: the locations of each cluster, and what its pods are given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from kfp_lifecycle.config.kserve_servers import KServeServers
from kfp_lifecycle.config.locations import Locations, located
from kfp_lifecycle.config.section import Section, text
from kfp_lifecycle.config.steps import Accelerator, LabelKey, LabelValue, StepSettings

_OBJECT = "Kubernetes names it in small letters, digits and hyphens, with a letter or digit first and last"
ClaimName = Annotated[str, text(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", f"{_OBJECT}, at most 63")]
SecretName = Annotated[str, text(r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", f"{_OBJECT}; dots are allowed")]
StepName = Annotated[str, text(r"^[A-Za-z0-9_-]{1,63}$", "a step is named as its component, such as train_model")]
SecretKey = Annotated[
    str, text(r"^[A-Za-z0-9._-]{1,253}$", "the key of a secret has letters, digits, dots, hyphens and underscores")
]
Variable = Annotated[
    str,
    text(r"^[A-Za-z_][A-Za-z0-9_]*$", "a variable's name has letters, digits and underscores, and no digit first"),
]
MountPath = Annotated[
    str, text(r"^(/[A-Za-z0-9._-]+)+$", "it is a path in full, of letters, digits, dots, hyphens and underscores")
]
Address = Annotated[
    str, text(r"^(https?://[^\s]+[^/\s])?$", "an address starts with https:// or http://, and has no slash at its end")
]

SecretReference = Annotated[
    str,
    located(
        r"secretmanager://projects/[^/]+(/locations/[^/]+)?/secrets/[\w-]{1,255}(/versions/[\w-]{1,63})?",
        "a secret itself never stands here: write secretmanager://projects/PROJECT/secrets/SECRET, and "
        "/versions/VERSION where not the latest is meant",
    ),
]

TargetName = Literal["local", "kubeflow", "vertex"]

# By its tag, so that a mirror or a node that holds it serves it: what runs on it comes by hashes.
STOCK_IMAGE = "python:3.11-slim"

_UPLOAD_ROOT = r"(gs|s3|minio)://[^/].*[^/]"
UploadRoot = Annotated[
    str,
    located(
        _UPLOAD_ROOT,
        "code archives and definitions are uploaded to an object store that KFP reads with its own credentials: "
        "s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or minio://BUCKET/FOLDER, without a slash at the end",
    ),
]


class ClusterTarget(Locations):
    """Locations of a cluster, where pipelines find what they were compiled with, and how its runs are started."""

    experiment: str = ""
    """The experiment that runs are grouped in; the project's name by default."""
    service_account: str = ""
    """The account that a run's steps work as; by default what the target gives runs: `pipeline-runner` on a Kubeflow
    for one, `default-editor` on one for many, the Compute Engine account on Vertex AI."""
    pipeline_root: str = ""
    """Where the steps' outputs are kept; by default what the target is set to."""
    image_registry: str = ""
    """Registry and prefix of the environments' images, which `make images` builds: code then reaches the steps in
    them, else in archives below `upload_root`."""
    stock_image: str = STOCK_IMAGE
    """What steps run on whose code comes in archives: an image with Python 3.11. Where the cluster reaches no public
    registry, its name on a mirror; with a digest it never changes."""

    upload_root: UploadRoot
    """Folder of an object store that holds code archives and definitions, each named by its content's digest; the
    pipeline root is a good one. KFP's importers fetch them with its own credentials."""
    steps: dict[StepName, StepSettings] = Field(default={})
    """What each step's pod is given, by the component's name, and `default` for all:
    `train_model: {cpu: 4, memory: 8Gi}`."""


class KubeflowTarget(ClusterTarget):
    """Locations of a Kubeflow, with the secrets and volumes that its steps need."""

    upload_root: UploadRoot = "minio://mlpipeline/v2/artifacts"
    """Folder of an object store that holds code archives and definitions, each named by its content's digest; by
    default the pipeline root of a Kubeflow as it is installed."""
    endpoint: Address = ""
    """Address of the Kubeflow Pipelines API, `https://kubeflow.example/pipeline`: what a browser shows before `/#/`. By
    default it is found by the kubeconfig, through the cluster's own API server."""
    dashboard: Address = ""
    """Where links into the dashboard point, if that is not `endpoint`."""
    namespace: str = ""
    """The profile that runs belong to, on a Kubeflow for many users."""
    installation: str = "kubeflow"
    """The namespace that Kubeflow Pipelines itself is installed in."""
    secrets: dict[SecretName, dict[SecretKey, Variable]] = Field(default={})
    """Kubernetes secrets in the namespace of the runs, whose keys become variables of every step:
    `mlflow: {password: MLFLOW_TRACKING_PASSWORD}`. Only names stand here and in the compiled pipeline."""
    volumes: dict[ClaimName, MountPath] = Field(default={})
    """PersistentVolumeClaims that every step mounts, and every server on KServe in the same namespace: where, by name.
    Without one for `prediction_log` each server's log is gone with its pod."""
    config_maps: dict[SecretName, dict[SecretKey, Variable]] = Field(default={})
    """Config maps in the namespace of the runs, whose keys become variables of every step:
    `proxy: {url: HTTPS_PROXY}`."""
    pull_secrets: list[SecretName] = Field(default=[])
    """Secrets that the images of the steps are pulled with."""
    pod_labels: dict[LabelKey, LabelValue] = Field(default={})
    """Labels of every step's pod, beside `lifecycle.project`, `lifecycle.pipeline` and `lifecycle.commit`."""
    pod_annotations: dict[LabelKey, str] = Field(default={})
    """Annotations of every step's pod."""
    workflow_ttl_seconds: PositiveInt | None = None
    """How long a run's Workflow and its pods, with their logs, are kept when it has ended; by default as long as the
    Kubeflow keeps them, an hour as it is installed. The run itself, and what it made, stay."""
    servers: KServeServers = KServeServers()
    """What models are served on."""

    @model_validator(mode="after")
    def _each_variable_has_one_source(self) -> Self:
        sources = [*self.secrets.values(), *self.config_maps.values()]
        counted = Counter(variable for keys in sources for variable in keys.values())
        twice = sorted(variable for variable, times in counted.items() if times > 1)
        if twice:
            raise ValueError(f"{', '.join(twice)}: a variable comes from one key of one secret or config map")
        return self

    @model_validator(mode="after")
    def _labels_of_the_library_are_its_own(self) -> Self:
        taken = sorted(key for key in self.pod_labels if key.startswith("lifecycle."))
        if taken:
            raise ValueError(f"pod_labels: {', '.join(taken)}: the library sets labels that begin with lifecycle.")
        return self


ExperimentName = Annotated[
    str,
    located(
        r"([a-z0-9][a-z0-9-]{0,127})?",
        "an experiment of Vertex AI is named by at most 128 small letters, digits and hyphens, a letter or digit first",
    ),
]
GoogleAccount = Annotated[
    str, located(r"([\w.-]+@[\w.:-]+\.com)?", "a service account is named NAME@PROJECT.iam.gserviceaccount.com")
]
Network = Annotated[
    str,
    located(
        r"(projects/\d+/global/networks/[a-z][a-z0-9-]{0,62})?",
        "a network is named projects/NUMBER/global/networks/NAME, by the number of its project: "
        "gcloud projects describe PROJECT --format='value(projectNumber)'",
    ),
]
EncryptionKey = Annotated[
    str,
    located(
        r"(projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+)?",
        "a key is named projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY, without a version",
    ),
]
_STORAGE = "Vertex AI keeps outputs and fetches files in Cloud Storage: gs://BUCKET/FOLDER, without a slash at the end"
CloudStorage = Annotated[str, located(r"gs://[^/].*[^/]", _STORAGE)]
CloudLabelKey = Annotated[
    str,
    located(
        r"(?!lifecycle_)[a-z][a-z0-9_-]{0,62}",
        "a label's key is at most 63 small letters, digits, - and _, a letter first; the library sets those that begin "
        "with lifecycle_",
    ),
]
CloudLabelValue = Annotated[
    str, located(r"[a-z0-9_-]{0,63}", "a label's value is at most 63 small letters, digits, - and _")
]
ResourceName = Annotated[
    str,
    located(r"([a-z][a-z0-9-]{0,61}[a-z0-9])?", "it is the resource's id: small letters, digits and hyphens"),
]


class VertexServers(Section):
    """What models are served on at Vertex AI, and what becomes of their versions."""

    machine_type: Annotated[str, located(r"[a-z][a-z0-9-]+", "a machine type looks like n1-standard-2")] = (
        "n1-standard-2"
    )
    """The machine of each replica."""
    accelerator: Accelerator | None = None
    """Accelerators of each replica, by Vertex AI's own name of them."""
    service_account: GoogleAccount = ""
    """The account that servers work as; by default `targets.vertex.service_account`."""
    request_log: Annotated[
        str,
        located(r"(bq://[^/.]+\.[^/.]+\.[^/.]+)?", "a table of BigQuery is named bq://PROJECT.DATASET.TABLE"),
    ] = ""
    """The table of BigQuery that requests and answers are logged to, `bq://PROJECT.DATASET.TABLE`; by default none. It
    is chosen when the endpoint is made."""
    request_log_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The share of the requests that is logged."""
    explanation_paths: PositiveInt | None = None
    """By how many paths of Sampled Shapley `explain` attributes a score to the features; by default there are no
    explanations. Each asks the model for as many times as it has features."""
    keep_versions: PositiveInt = 10
    """How many versions of a model the Model Registry keeps: those that are released count, and stay in any case."""
    labels: dict[CloudLabelKey, CloudLabelValue] = Field(default={}, max_length=60)
    """Labels of models and endpoint, beside `targets.vertex.labels`."""
    encryption_key: EncryptionKey = ""
    """The key that models and endpoint are encrypted with; by default `targets.vertex.encryption_key`."""


UNKNOWN_TO_VERTEX = {
    "volumes": "its steps mount no volume but find every bucket below /gcs/BUCKET",
    "config_maps": "it has no config maps: say it in the step's settings",
    "pull_secrets": "it pulls images by its own agent, which needs roles/artifactregistry.reader on their repository",
    "pod_labels": "its jobs have labels: targets.vertex.labels",
    "pod_annotations": "its jobs have labels: targets.vertex.labels",
    "namespace": "its runs belong to a project: targets.vertex.project",
    "workflow_ttl_seconds": "it keeps runs until they are deleted",
}
"""Settings of `targets.kubeflow` that Vertex AI has no place for, and what to do instead."""


class VertexTarget(ClusterTarget):
    """Locations on Vertex AI, and the project that pipelines run in."""

    experiment: ExperimentName = ""
    """The Vertex AI experiment that runs are added to, which is made where there is none; by default none: labels tell
    the runs of a project."""
    service_account: GoogleAccount = ""
    """The account that a run's steps work as; by default the Compute Engine account."""
    upload_root: CloudStorage
    """Folder of a bucket that holds code archives and definitions, each named by its content's digest; the pipeline
    root is a good one."""
    pipeline_root: CloudStorage | Literal[""] = ""
    """Where the steps' outputs are kept, `gs://BUCKET/FOLDER`; by default `upload_root`."""
    project: str = ""
    """The Google Cloud project that runs belong to; by default that of `serving`."""
    location: str = ""
    """The region that they run in; by default that of `serving`."""
    secrets: dict[Variable, SecretReference] = Field(default={})
    """Secrets of Secret Manager that become variables of every step and, where their online store needs them, of
    servers: `DB_PASSWORD: secretmanager://projects/churn-project/secrets/db-password`, the latest version, or
    `…/versions/3`. Only these names stand in the compiled pipeline; each step reads what they name."""
    labels: dict[CloudLabelKey, CloudLabelValue] = Field(default={}, max_length=60)
    """Labels of every run and of what is released, beside those that lead back to project, pipeline and run: what costs
    are told apart by, say."""
    network: Network = ""
    """The VPC network that steps are peered with: `projects/NUMBER/global/networks/NAME`."""
    reserved_ip_ranges: list[ResourceName] = Field(default=[])
    """Names of address ranges of that network that steps take their addresses from; by default any."""
    encryption_key: EncryptionKey = ""
    """The key that outputs are encrypted with (CMEK): `projects/…/locations/…/keyRings/…/cryptoKeys/…`."""
    persistent_resource: ResourceName = ""
    """A persistent resource, by its id, whose machines steps run on, so that none has to wait for one to start. Where
    it has none free, a step runs on a machine of its own."""
    failure_policy: Literal["slow", "fast"] = "slow"
    """When a step has failed: `slow` goes on with the steps that do not wait for it, `fast` begins no other."""
    servers: VertexServers = VertexServers()
    """What models are served on."""
    endpoint: Address = ""
    """Address of the Vertex AI API where it is not the region's own: that of a Private Service Connect endpoint, say.
    To one of `http://` no credentials are sent."""

    def servers_given(self) -> VertexServers:
        """What models are served on, with what the target says of everything."""
        said = self.servers
        return said.model_copy(
            update={
                "service_account": said.service_account or self.service_account,
                "labels": {**self.labels, **said.labels},
                "encryption_key": said.encryption_key or self.encryption_key,
            }
        )

    @model_validator(mode="before")
    @classmethod
    def _of_another_target(cls, values: Any) -> Any:
        for key, remedy in UNKNOWN_TO_VERTEX.items():
            if isinstance(values, Mapping) and key in values:
                raise PydanticCustomError(
                    "vertex", "{key} cannot be had on Vertex AI: {remedy}", {"key": key, "remedy": remedy}
                )
        return values

    @model_validator(mode="after")
    def _addresses_belong_to_a_network(self) -> Self:
        if self.reserved_ip_ranges and not self.network:
            raise ValueError("reserved_ip_ranges are ranges of a network: set network too, or leave them out")
        return self


class Targets(Section):
    """The locations of each cluster. The local target keeps everything in `.lifecycle/`."""

    default: TargetName = "local"
    """Where commands run that are told no `--target`."""
    kubeflow: KubeflowTarget | None = None
    """Locations of a self-hosted Kubeflow, with secrets and volumes for its steps."""
    vertex: VertexTarget | None = None
    """Locations on Vertex AI."""
