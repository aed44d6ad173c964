"""Runs and schedules on Vertex AI, by the backend that `lifecycle … --target vertex` uses."""

import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1
from google.protobuf import json_format
from small_pipeline import allow, ended, states, submission, wait_until_running

from kfp_lifecycle.backends import schedules
from kfp_lifecycle.backends.backend import (
    BackendError,
    NotThere,
    PlannedSchedule,
    Submission,
    Unreachable,
)
from kfp_lifecycle.backends.schedules import Change
from kfp_lifecycle.backends.submission import backend_of
from kfp_lifecycle.backends.vertex.backend import VertexBackend
from kfp_lifecycle.backends.vertex.tasks import reason_in
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.schedules import Schedule
from kfp_lifecycle.config.tuning import Tuning
from kfp_lifecycle.runtime.closure import ROOT
from kfp_lifecycle.runtime.states import RunState, State
from kfp_lifecycle.tuning.vizier import METRIC, parameters_of, study_spec
from tests.control_planes.vertex import Fault, VertexStandIn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
FAST = aiplatform_v1.PipelineFailurePolicy.PIPELINE_FAILURE_POLICY_FAIL_FAST
PARENT = "projects/churn-project/locations/europe-west4"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[VertexStandIn]:
    with VertexStandIn(tmp_path / "vertex") as running:
        yield running


def target_at(url: str, **keys: str) -> VertexBackend:
    overrides = [f"targets.vertex.{key}={value}" for key, value in {"endpoint": url, **keys}.items()]
    target = load_configuration(ROOT, overrides).targets.vertex
    assert target is not None
    return VertexBackend(target, "shop")


@pytest.fixture
def backend(server: VertexStandIn) -> VertexBackend:
    return target_at(server.url)


class TestSubmit:
    def test_a_run_has_a_link_into_the_console(self, backend: VertexBackend, compiled: Path, reference: Path) -> None:
        run = ended(backend, backend.submit(submission(compiled, reference)))
        assert run.summary.link == (
            "https://console.cloud.google.com/vertex-ai/locations/europe-west4/pipelines/runs/small-1"
            "?project=churn-project"
        )

    def test_the_exit_handler_is_told_of_a_success_in_vertex_s_words(
        self, backend: VertexBackend, compiled: Path, reference: Path
    ) -> None:
        run = ended(backend, backend.submit(submission(compiled, reference)))
        told = run.progress.steps["tell"].parameters["Output"]
        assert told.split()[:2] == ["SUCCEEDED", f"{PARENT}/pipelineJobs/small-1"]

    def test_without_the_cache_everything_runs(self, backend: VertexBackend, compiled: Path, reference: Path) -> None:
        ended(backend, backend.submit(submission(compiled, reference)))
        anew = Submission(compiled, "small", "shop", "small-2", False, {"reference": str(reference)})
        assert states(ended(backend, backend.submit(anew)))["count"] is State.done

    def test_all_that_the_target_says_of_runs_is_sent(
        self, server: VertexStandIn, compiled: Path, reference: Path
    ) -> None:
        said = {
            "service_account": "steps@churn-project.iam.gserviceaccount.com",
            "network": "projects/123/global/networks/inside",
            "reserved_ip_ranges": "[steps]",
            "encryption_key": "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k",
            "pipeline_root": "gs://elsewhere/runs",
            "labels": "{team: growth, cost: '42'}",
            "failure_policy": "fast",
        }
        backend = target_at(server.url, **said)
        run = backend.submit(submission(compiled, reference, "Batch_Scoring 1"))
        assert run == "batch-scoring-1"
        job = backend._job(run)
        assert (job.service_account, job.network) == (said["service_account"], said["network"])
        assert list(job.reserved_ip_ranges) == ["steps"]
        assert job.encryption_spec.kms_key_name == said["encryption_key"]
        assert job.runtime_config.gcs_output_directory == said["pipeline_root"]
        assert job.runtime_config.failure_policy == FAST
        assert dict(job.labels) == {
            "team": "growth",
            "cost": "42",
            "lifecycle_project": "shop",
            "lifecycle_pipeline": "small",
            "lifecycle_name": "batch_scoring-1",
        }
        ended(backend, run)
        assert backend.artifacts(run)[0].uri.startswith("gs://elsewhere/runs/")

    def test_steps_run_on_a_persistent_resource_that_is_named(
        self, server: VertexStandIn, compiled: Path, reference: Path
    ) -> None:
        backend = target_at(server.url, persistent_resource="warm")
        run = ended(backend, backend.submit(submission(compiled, reference, rows=11)))
        assert (run.summary.state, run.failed_step) == (RunState.failed, "check")
        jobs = [backend._job(run.summary.id), backend._job(backend.resume(run.summary.id))]
        details = [job.runtime_config.default_runtime.persistent_resource_runtime_detail for job in jobs]
        assert {detail.persistent_resource_name for detail in details} == {f"{PARENT}/persistentResources/warm"}
        assert {request.split("/")[1] for request in server.requests} == {"v1beta1"}
        assert [each.id for each in backend.runs(1)] == ["small-1-resumed"]

    def test_a_run_is_added_to_the_experiment_that_is_named(
        self, server: VertexStandIn, compiled: Path, reference: Path
    ) -> None:
        backend = target_at(server.url, experiment="churn")
        for name in ("small-1", "small-2"):
            backend.submit(submission(compiled, reference, name))
        contexts = f"{PARENT}/metadataStores/default/contexts"
        assert server.contexts.children("churn") == [f"{contexts}/small-1", f"{contexts}/small-2"]

    def test_a_run_that_could_not_be_added_to_its_experiment_is_said_to_be_started(
        self, server: VertexStandIn, compiled: Path, reference: Path
    ) -> None:
        server.order(Fault(method="POST", path="/contexts", status=403))
        with pytest.raises(BackendError, match="small-1 is started, but it could not be added to the experiment churn"):
            target_at(server.url, experiment="churn").submit(submission(compiled, reference))
        assert [run.id for run in target_at(server.url).runs(10)] == ["small-1"]

    def test_a_run_of_another_name_and_the_same_id_is_no_such_one(
        self, backend: VertexBackend, compiled: Path, reference: Path
    ) -> None:
        backend.submit(submission(compiled, reference, "small-1"))
        with pytest.raises(BackendError, match=r"its id would be small-1, which the run small-1 has"):
            backend.submit(submission(compiled, reference, "small_1"))

    @pytest.mark.parametrize(
        ("parameters", "words"), [({"unknown": "x"}, "unknown"), ({"rows": "three"}, "rows requires type double")]
    )
    def test_a_wrong_parameter_is_refused_in_the_server_s_words(
        self, backend: VertexBackend, compiled: Path, reference: Path, parameters: dict[str, str], words: str
    ) -> None:
        with pytest.raises(BackendError, match=words):
            backend.submit(submission(compiled, reference, **parameters))

    def test_what_vertex_refuses_of_a_file_is_said_before_anything_is_sent(
        self, server: VertexStandIn, backend: VertexBackend, compiled: Path, reference: Path
    ) -> None:
        compiled.write_text(f"{compiled.read_text()}\n---\n{yaml.safe_dump({'platforms': {}})}")
        with pytest.raises(BackendError, match="has 2 YAML documents, and Vertex AI takes one"):
            backend.submit(submission(compiled, reference))
        assert server.requests == []

    def test_a_command_leaves_no_thread_behind(self, backend: VertexBackend, compiled: Path, reference: Path) -> None:
        backend.runs(1)
        before = {thread for thread in threading.enumerate() if "process_request" not in thread.name}
        ended(backend, backend.submit(submission(compiled, reference)))
        backend.runs(1)
        after = {thread for thread in threading.enumerate() if "process_request" not in thread.name}
        assert after <= before


class TestRuns:
    def test_the_log_of_a_step_is_what_cloud_logging_has(
        self, server: VertexStandIn, backend: VertexBackend, compiled: Path, reference: Path
    ) -> None:
        run = ended(backend, backend.submit(submission(compiled, reference, rows=11))).summary.id
        whole = list(backend.log(run, "count"))
        assert "Done: 11 rows" in whole
        lines = list(backend.log(run, "check"))
        assert lines[lines.index("The run stops here:") + 1 :][:2] == ["The table users has 11 rows.", "Load fewer."]
        # In several answers it is the same.
        server.entries.most = 2
        assert list(backend.log(run, "count")) == whole

    def test_the_log_of_a_step_comes_as_it_is_written(
        self, backend: VertexBackend, compiled: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kfp_lifecycle.backends.vertex.logs.PAUSE", 0.1)
        allow(reference, "wait")
        run = backend.submit(submission(compiled, reference, rows=11))
        wait_until_running(backend, run, "check")
        lines = backend.log(run, "check")
        first = next(lines)
        assert backend.status(run).progress.steps["check"].state is State.running
        allow(reference, "10")
        assert "The run stops here:" in [first, *lines]

    def test_a_log_that_is_gone_is_said_to_be_gone_and_a_forbidden_one_which_role_it_takes(
        self, server: VertexStandIn, backend: VertexBackend, compiled: Path, reference: Path
    ) -> None:
        run = ended(backend, backend.submit(submission(compiled, reference))).summary.id
        server.order(Fault(method="POST", path="/v2/entries:list", status=403))
        with pytest.raises(BackendError, match=r"may not read the log of the step count .*roles/logging\.viewer"):
            list(backend.log(run, "count"))
        for log in (server.folder / "runs").rglob("logs/*.log"):
            log.unlink()
        with pytest.raises(NotThere, match=r"keeps them for 30 days .*roles/logging\.logWriter"):
            list(backend.log(run, "count"))

    def test_artifacts_are_listed_with_kind_place_and_metadata(
        self, server: VertexStandIn, backend: VertexBackend, compiled: Path, reference: Path
    ) -> None:
        run = ended(backend, backend.submit(submission(compiled, reference))).summary.id
        (artifact,) = backend.artifacts(run)
        assert (artifact.step, artifact.name, artifact.kind) == ("count", "data", "Dataset")
        assert artifact.metadata["summary"] == "3 rows"
        assert server.object(artifact.uri).read_text() == "xxx"

    def test_a_failed_run_goes_on_as_another_that_takes_what_succeeded_from_the_cache(
        self, backend: VertexBackend, compiled: Path, reference: Path
    ) -> None:
        run = ended(backend, backend.submit(submission(compiled, reference, rows=11))).summary.id
        allow(reference, "20")
        resumed = backend.resume(run)
        assert resumed == "small-1-resumed"
        # Asked again, it is the same run.
        assert backend.resume(run) == resumed
        status = ended(backend, resumed)
        assert status.summary.state is RunState.done
        assert states(status) == {
            "count": State.cached,
            "check": State.done,
            # Vertex AI goes on with what does not wait for the step that failed.
            "register": State.cached,
            "tell": State.done,
        }
        with pytest.raises(BackendError, match="is succeeded: there is nothing to resume"):
            backend.resume(resumed)

    def test_a_resumed_run_that_failed_is_resumed_under_a_name_of_its_own(
        self, backend: VertexBackend, compiled: Path, reference: Path
    ) -> None:
        first = ended(backend, backend.submit(submission(compiled, reference, rows=11))).summary.id
        second = ended(backend, backend.resume(first)).summary.id
        with pytest.raises(BackendError, match="was resumed before, as small-1-resumed, which has failed"):
            backend.resume(first)
        assert backend.resume(second) == "small-1-resumed-2"

    def test_a_run_whose_machine_is_lost_fails(
        self, server: VertexStandIn, backend: VertexBackend, compiled: Path, reference: Path
    ) -> None:
        allow(reference, "wait")
        run = backend.submit(submission(compiled, reference))
        wait_until_running(backend, run, "check")
        server.lose(run)
        status = ended(backend, run)
        assert (status.summary.state, status.failed_step) == (RunState.failed, "check")


class TestWhoAsks:
    @pytest.mark.parametrize(
        ("fault", "words"),
        [
            (Fault(status=401), r"\(401\): log in by gcloud auth application-default login"),
            (Fault(status=403), r"may not list the runs in churn-project \(403\): ask for the role roles/aiplatform"),
            (
                Fault(status=403, message="You do not have permission to act as service_account: a@b"),
                "roles/iam.serviceAccountUser on the Compute Engine default service account",
            ),
            (
                Fault(status=403, message="Vertex AI API has not been used in project 1 before or it is disabled"),
                "gcloud services enable aiplatform.googleapis.com",
            ),
        ],
    )
    def test_who_is_refused_is_told_what_to_ask_for(
        self, server: VertexStandIn, backend: VertexBackend, fault: Fault, words: str
    ) -> None:
        server.order(fault)
        with pytest.raises(BackendError, match=words):
            backend.runs(1)

    def test_a_quota_that_does_not_suffice_is_told_with_where_to_raise_it(
        self, server: VertexStandIn, backend: VertexBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kfp_lifecycle.runtime.asking.PATIENCE", 0.2)
        server.order(Fault(status=429, message="Quota exceeded for aiplatform.googleapis.com/custom_model_training"))
        with pytest.raises(Unreachable, match=r"\(429\): wait .*/iam-admin/quotas\?project=churn-project.*Quota exc"):
            backend.runs(1)

    def test_nobody_is_logged_in(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
        with pytest.raises(BackendError, match="log in by gcloud auth application-default login"):
            target_at("https://127.0.0.1:9").runs(1)

    def test_the_project_s_backend_for_vertex(self, server: VertexStandIn) -> None:
        endpoint = f"targets.vertex.endpoint={server.url}"
        backend = backend_of(load_configuration(ROOT, [endpoint]), "vertex")
        assert isinstance(backend, VertexBackend)
        assert backend.runs(1) == []
        assert server.requests == ["GET /v1/projects/churn-project/locations/europe-west4/pipelineJobs"]
        elsewhere = [endpoint, "targets.vertex.project=other", "targets.vertex.location=us-east1"]
        backend_of(load_configuration(ROOT, elsewhere), "vertex").runs(1)
        assert server.requests[-1] == "GET /v1/projects/other/locations/us-east1/pipelineJobs"

    def test_without_google_s_client_it_is_said_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "kfp_lifecycle.backends.vertex.backend")
        monkeypatch.setitem(sys.modules, "google.cloud.aiplatform_v1", None)
        monkeypatch.delattr("google.cloud.aiplatform_v1")
        with pytest.raises(ConfigurationError, match=r"aiplatform_v1 is not installed here: .*kfp-lifecycle\[vertex\]"):
            backend_of(load_configuration(ROOT), "vertex")

    def test_without_project_and_region_it_is_said_what_to_set(self) -> None:
        configuration = load_configuration(ROOT, ["targets.vertex.serving=local:/serving"])
        with pytest.raises(ConfigurationError, match=r"set targets\.vertex\.project and targets\.vertex\.location"):
            backend_of(configuration, "vertex")


class TestSchedules:
    def planned(self, compiled: Path, reference: Path, digest: str = "0123456789abcdef") -> PlannedSchedule:
        schedule = Schedule(cron="30 8 * * *", zone="Europe/Berlin", parameters={"reference": str(reference)})
        return PlannedSchedule("shop-small", "small", schedule, compiled, digest)

    def changes(self, backend: VertexBackend, planned: list[PlannedSchedule]) -> list[Change]:
        return [item.change for item in schedules.apply(backend, planned)]

    def test_a_time_zone_is_part_of_its_cron(self, backend: VertexBackend, compiled: Path, reference: Path) -> None:
        assert self.changes(backend, [self.planned(compiled, reference)]) == [Change.created]
        assert [made.cron for made in backend.schedules()] == ["TZ=Europe/Berlin 30 8 * * *"]

    def test_a_schedule_is_made_once_though_the_connection_is_cut(
        self, server: VertexStandIn, backend: VertexBackend, compiled: Path, reference: Path
    ) -> None:
        server.order(Fault(method="POST", path="/schedules$", cut=True))
        assert self.changes(backend, [self.planned(compiled, reference)]) == [Change.created]
        assert len(backend.schedules()) == 1

    def test_schedules_of_others_are_left_alone(
        self, server: VertexStandIn, backend: VertexBackend, compiled: Path, reference: Path
    ) -> None:
        target = load_configuration(ROOT, [f"targets.vertex.endpoint={server.url}"]).targets.vertex
        assert target is not None
        other = VertexBackend(target, "shop-eu")
        wanted = self.planned(compiled, reference)
        other.create_schedule(PlannedSchedule("shop-eu-small", "small", wanted.schedule, compiled, wanted.digest))
        assert self.changes(backend, []) == []
        assert len(other.schedules()) == 1

    def test_it_starts_at_the_hour_of_its_zone_and_no_second_one_beside_it(
        self, server: VertexStandIn, backend: VertexBackend, compiled: Path, reference: Path
    ) -> None:
        allow(reference, "wait")
        schedules.apply(backend, [self.planned(compiled, reference)])
        server.clock.advance(days=1)
        (run,) = backend.runs(10)
        assert (run.pipeline, run.schedule) == ("small", backend.schedules()[0].id)
        server.clock.advance(days=1)
        assert len(backend.runs(10)) == 1
        allow(reference, "10")
        assert ended(backend, run.id).summary.state is RunState.done
        server.clock.advance(days=1)
        assert len(backend.runs(10)) == 2

    def test_a_paused_one_starts_nothing_and_makes_up_for_nothing(
        self, server: VertexStandIn, backend: VertexBackend, compiled: Path, reference: Path
    ) -> None:
        made = backend.create_schedule(self.planned(compiled, reference))
        backend.pause_schedule(made)
        server.clock.advance(days=2)
        backend.resume_schedule(made)
        server.clock.advance(seconds=1)
        assert backend.runs(10) == []

    def test_a_schedule_that_is_changed_is_the_same_one(
        self, server: VertexStandIn, backend: VertexBackend, compiled: Path, reference: Path
    ) -> None:
        schedule = Schedule(cron="0 8 * * *", parameters={"reference": str(reference)})
        made = backend.create_schedule(PlannedSchedule("shop-small", "small", schedule, compiled, "0" * 16))
        backend.pause_schedule(made)
        elsewhere = target_at(server.url, network="projects/1/global/networks/inside")
        later = schedule.model_copy(update={"cron": "0 9 * * *", "end": datetime(2031, 1, 1, tzinfo=UTC)})
        planned = PlannedSchedule("shop-small", "small", later, compiled, "1" * 16)
        assert schedules.apply(elsewhere, [planned])[0].paused
        (changed,) = backend.schedules()
        assert (changed.id, changed.cron, changed.digest) == (made, "TZ=UTC 0 9 * * *", "1" * 16)
        kept = backend.api.schedules.get_schedule(name=f"{PARENT}/schedules/{made}")
        assert kept.create_pipeline_job_request.pipeline_job.network == "projects/1/global/networks/inside"
        # What it has cannot be taken from it again, so that another one is made.
        for wanted, by in ((schedule, elsewhere), (later, backend)):
            again = PlannedSchedule("shop-small", "small", wanted, compiled, "2" * 16)
            assert not by.update_schedule(made, again)

    def test_start_and_end_are_kept(self, server: VertexStandIn, backend: VertexBackend, compiled: Path) -> None:
        schedule = Schedule(
            cron="* * * * *",
            start="2030-01-01T00:00:00Z",
            end="2030-02-01T00:00:00Z",
            parameters={"reference": "/none"},
        )
        made = backend.create_schedule(PlannedSchedule("shop-small", "small", schedule, compiled, "0" * 16))
        kept = backend.api.schedules.get_schedule(name=f"{PARENT}/schedules/{made}")
        assert (kept.start_time, kept.end_time) == (schedule.start, schedule.end)
        assert (kept.max_concurrent_run_count, kept.max_concurrent_active_run_count) == (1, 1)
        assert kept.state == aiplatform_v1.Schedule.State.ACTIVE


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "Vertex AI does not say why"),
        ("The DAG failed.\n  Try again.", "The DAG failed. Try again."),
        (
            "The replica workerpool0-0 exited with a non-zero status of 1. Termination reason: Error. \nNo rows.\n"
            "To find out more about why your job exited please check the logs: https://console.cloud.google.com/logs",
            "No rows.",
        ),
        (
            "The replica workerpool0-0 exited with a non-zero status of 128. Termination reason: StartError. \n"
            " Termination log message: failed to create containerd task",
            "failed to create containerd task",
        ),
        (
            "The replica workerpool0-0 exited with a non-zero status of 1. To find out more about why your job exited "
            "please check the logs: https://console.cloud.google.com/logs",
            "The replica workerpool0-0 exited with a non-zero status of 1. To find out more about why your job exited "
            "please check the logs: https://console.cloud.google.com/logs",
        ),
        (
            "Replicas low on memory: workerpool0. Specify a machine with larger memory and try again.",
            "It was out of memory. Raise targets.vertex.steps.train_model.memory. Vertex AI says: Replicas low on "
            "memory: workerpool0. Specify a machine with larger memory and try again.",
        ),
        (
            "The replica workerpool0-0 exited with a non-zero status of 137. Termination reason: OOMKilled. ",
            "It was out of memory. Raise targets.vertex.steps.train_model.memory. Vertex AI says: The replica "
            "workerpool0-0 exited with a non-zero status of 137. Termination reason: OOMKilled.",
        ),
        (
            "Resources are insufficient in region: europe-west4. Please try a different region.",
            "There is no machine for it now. Resume the run later, or change targets.vertex.steps.train_model. Vertex "
            "AI says: Resources are insufficient in region: europe-west4. Please try a different region.",
        ),
    ],
)
def test_a_reason_is_found_in_what_vertex_says_of_a_job(message: str, reason: str) -> None:
    assert reason_in(message, "train-model") == reason


def test_the_stand_in_of_vizier_speaks_to_google_s_own_client(server: VertexStandIn) -> None:
    """By its protocol `tests/modelling/test_tuning_vizier.py` searches."""
    client = aiplatform_v1.VizierServiceClient(
        credentials=AnonymousCredentials(),
        transport="rest",
        client_options=ClientOptions(api_endpoint=server.url),
    )
    settings = Tuning.model_validate(
        {
            "space": {
                "rate": {"type": "float", "low": 0.01, "high": 1.0, "log": True},
                "leaves": {"type": "int", "low": 3, "high": 20},
                "kind": {"type": "categorical", "choices": ["a", None, 3]},
            }
        }
    )
    specification = json_format.ParseDict(study_spec(settings), aiplatform_v1.StudySpec.pb(aiplatform_v1.StudySpec()))
    study = client.create_study(
        parent=PARENT, study=aiplatform_v1.Study(display_name="s", study_spec=aiplatform_v1.StudySpec(specification))
    )
    asked = aiplatform_v1.SuggestTrialsRequest(parent=study.name, suggestion_count=1, client_id="trial-1")
    (trial,) = client.suggest_trials(asked).result(timeout=10).trials
    suggested = json_format.MessageToDict(type(trial).pb(trial))
    assert set(parameters_of(suggested, settings.space)) == {"rate", "leaves", "kind"}
    measured = aiplatform_v1.Measurement(metrics=[{"metric_id": METRIC, "value": 0.7}])
    ended = client.complete_trial(aiplatform_v1.CompleteTrialRequest(name=trial.name, final_measurement=measured))
    assert ended.state == aiplatform_v1.Trial.State.SUCCEEDED
    assert client.lookup_study({"parent": PARENT, "display_name": "s"}).name == study.name
    client.delete_study(name=study.name)
    with pytest.raises(exceptions.NotFound):
        client.lookup_study({"parent": PARENT, "display_name": "s"})
