"""Configuration of Apache Beam, which computes TFDV's statistics where a table is too large for one machine."""

from __future__ import annotations

import difflib
from enum import StrEnum

from pydantic import Field, StrictBool, StrictFloat, StrictInt, model_validator

from kfp_lifecycle.config.section import Section


class Runner(StrEnum):
    """Who runs Beam's pipelines."""

    direct = "DirectRunner"
    dataflow = "DataflowRunner"
    flink = "FlinkRunner"
    portable = "PortableRunner"


ANY_RUNNER = ("temp_location", "job_name", "experiments")
WORKERS_ELSEWHERE = (
    "environment_type", "environment_config", "environment_options", "environment_cache_millis",
    "sdk_worker_parallelism", "parallelism", "max_parallelism",
)  # fmt: skip
OPTIONS = {
    Runner.direct: ("direct_num_workers", "direct_running_mode"),
    Runner.dataflow: (
        "project", "region", "staging_location", "dataflow_endpoint", "no_auth", "service_account_email",
        "impersonate_service_account", "labels", "flexrs_goal", "dataflow_kms_key", "dataflow_service_options",
        "enable_artifact_caching", "enable_hot_key_logging", "num_workers", "max_num_workers",
        "autoscaling_algorithm", "machine_type", "min_cpu_platform", "disk_size_gb", "worker_disk_type",
        "worker_region", "worker_zone", "network", "subnetwork", "use_public_ips", "no_use_public_ips",
        "sdk_container_image", "number_of_worker_harness_threads", "max_cache_memory_usage_mb",
        "default_sdk_harness_log_level",
    ),
    Runner.flink: (
        "flink_master", "flink_version", "flink_job_server_jar", "flink_submit_uber_jar", "jar_cache_dir",
        *WORKERS_ELSEWHERE,
    ),
    Runner.portable: ("job_endpoint", "artifact_endpoint", "job_server_timeout", *WORKERS_ELSEWHERE),
}  # fmt: skip
"""The options of Beam that each runner knows, beside those of any. A secret is none of them: credentials are found by
the runner's own client."""

WORKERS = "how its workers get TFDV: DOCKER, PROCESS, EXTERNAL or, on this machine, LOOPBACK"
NEEDED = {
    Runner.direct: {},
    Runner.dataflow: {
        "project": "whose quota and bill it is",
        "region": "where its workers are",
        "sdk_container_image": "an image for its workers, of Beam's and TFDV's versions in environments/validation.txt",
    },
    Runner.flink: {"flink_master": "the cluster, HOST:PORT", "environment_type": WORKERS},
    Runner.portable: {"job_endpoint": "the job server, HOST:PORT", "environment_type": WORKERS},
}
"""What each runner cannot do without, and what it is."""


class Beam(Section):
    """Where TFDV's statistics are computed by Beam. A run waits for the job, and reads what it wrote."""

    runner: Runner = Runner.direct
    """`DirectRunner`: this machine. `DataflowRunner`: Google Cloud. `FlinkRunner`: a Flink cluster.
    `PortableRunner`: whatever a job server stands for, such as Flink's or Spark's."""
    options: dict[str, StrictBool | StrictInt | StrictFloat | str | list[str]] = Field(default={})
    """Beam's pipeline options, as Beam names them: `{region: europe-west4, max_num_workers: 20}`. `temp_location` is
    where the step and its workers share files."""

    @property
    def workers_are_here(self) -> bool:
        """Whether the workers share this machine's files with the step."""
        return self.runner == Runner.direct or self.options.get("environment_type") == "LOOPBACK"

    @model_validator(mode="after")
    def _the_runner_knows_its_options(self) -> Beam:
        known = [*OPTIONS[self.runner], *ANY_RUNNER]
        for name in self.options:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
                hint = f"Did you mean {close[0]}?" if close else f"It takes {', '.join(known)}."
                raise ValueError(f"{self.runner} has no option {name}. {hint}")
        return self

    @model_validator(mode="after")
    def _the_runner_has_what_it_needs(self) -> Beam:
        needed = dict(NEEDED[self.runner])
        if not self.workers_are_here:
            needed["temp_location"] = "a folder that the step and the workers reach"
        missing = [f"{name} ({what})" for name, what in needed.items() if not self.options.get(name)]
        if missing:
            raise ValueError(f"{self.runner} needs {', '.join(missing)}. Add it to options")
        place = str(self.options.get("temp_location", ""))
        in_a_bucket = place.startswith("gs://")
        if self.runner == Runner.dataflow and not in_a_bucket:
            raise ValueError(f"DataflowRunner's temp_location must be in a bucket, gs://BUCKET/FOLDER, not {place}")
        if "://" in place and not in_a_bucket:
            raise ValueError(
                f"temp_location is a folder that is mounted where the step and the workers run, or gs://BUCKET/FOLDER, "
                f"not {place}: no environment has another client of Beam's"
            )
        if str(self.options.get("flink_master", "")).startswith("["):
            raise ValueError(
                "FlinkRunner's flink_master must be a cluster, HOST:PORT: [local] and [auto] would start one within "
                "the step. On one machine take DirectRunner"
            )
        return self
