"""A search on a cluster: Katib takes the experiment, the step follows it, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kubeflow.katib import ApiClient, KatibClient, V1beta1Experiment
from kubeflow.katib.utils.utils import FakeResponse
from kubernetes.client import Configuration

from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.components.training.tune_with_katib import search as module
from kfp_lifecycle.components.training.tune_with_katib.experiment import build_experiment
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.tuning import Tuning
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.runtime.contract import OPENMP_VARIABLES, ContractViolation
from kfp_lifecycle.tuning.trial_settings import TrialSettings
from tests.katib.cluster import NAMESPACE, Cluster, problems, serve, write_trainer

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
CRDS = ROOT.parent / "shared" / "crds"
SPACE: dict[str, Any] = {
    "quality": {"type": "float", "low": 0.001, "high": 1, "log": True},
    "kind": {"type": "categorical", "choices": ["plain", "deep", None]},
    "depth": {"type": "int", "low": 2, "high": 30, "log": True, "when": {"kind": "deep"}},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)


class Place:
    """A cluster, and a step that works with it."""

    def __init__(self, folder: Path, **tuning: Any) -> None:
        self.folder = folder
        self.cluster = Cluster(folder / "containers", folder / "bin")
        self.server = serve(self.cluster)
        self.default = 0.01
        self.trainer()
        self.configure(**tuning)

    def trainer(self, worst: float = 0, seconds: float = 0.0) -> None:
        write_trainer(self.folder / "bin", worst, seconds)

    def configure(self, **tuning: Any) -> None:
        configuration = yaml.safe_load((ROOT / "pipeline.yaml").read_text("utf-8"))
        configuration["tuning"] = {"engine": "katib", "trials": 7, "space": SPACE, "parallel_trials": 2, **tuning}
        configuration["training"]["parameters"] = {"max_iter": 30}
        (self.folder / "pipeline.yaml").write_text(yaml.safe_dump(configuration), "utf-8")

    def client(self) -> KatibClient:
        configuration = Configuration(host=f"http://127.0.0.1:{self.server.server_address[1]}")
        return KatibClient(client_configuration=configuration, namespace=NAMESPACE)

    def search(self, folds: int = 2, training_set: str = "s3://bucket/set") -> dict[str, Any]:
        default = Parameters(parameters={"max_iter": 30}, default_value=self.default, folds=["a fold"] * folds)
        default.write(self.folder / "default")
        outputs = self.folder / "parameters", self.folder / "study.html"
        return module.search(
            load_configuration(self.folder), training_set, self.folder / "default", "image:1", *outputs, self.client()
        )

    @property
    def parameters(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "parameters").read_text("utf-8"))
        return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.cluster.close()
    made.server.shutdown()


def manifest(folds: int = 2, training: dict[str, Any] | None = None, **tuning: Any) -> dict[str, Any]:
    made = Tuning(**{"engine": "katib", "space": SPACE, **tuning})
    settings = TrialSettings(
        training_set="minio://mlpipeline/set",
        object_store=made.katib.object_store,
        training=training or {},
        space=made.space,
        folds=made.folds,
        horizon_days=30,
        stopping=made.pruning and folds > 1,
    )
    experiment = build_experiment("a_project", NAMESPACE, "image:1", settings, made)
    written: dict[str, Any] = ApiClient().sanitize_for_serialization(experiment)
    return written


class TestTheExperiment:
    def test_is_what_katibs_webhook_admits_and_its_own_types_hold(self) -> None:
        written = manifest()
        assert problems(written) == []
        read = ApiClient().deserialize(FakeResponse(written), V1beta1Experiment)
        assert ApiClient().sanitize_for_serialization(read) == written

    @pytest.mark.skipif(not CRDS.is_dir(), reason="../shared/crds is not there")
    def test_is_of_the_kind_that_the_real_resource_definition_serves(self) -> None:
        definition = yaml.safe_load((CRDS / "kubeflow.org_experiments.yaml").read_text("utf-8"))["spec"]
        (version,) = definition["versions"]
        written = manifest()
        assert written["apiVersion"] == f"{definition['group']}/{version['name']}"
        assert written["kind"] == definition["names"]["kind"]
        # Its schema holds no field: what may be inside is Katib's webhook to say, and the test before.
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        assert version["schema"]["openAPIV3Schema"] == schema

    def test_the_whole_space_is_in_it_typed_and_on_its_scale(self) -> None:
        parameters = manifest()["spec"]["parameters"]
        spaces = {item["name"]: (item["parameterType"], item["feasibleSpace"]) for item in parameters}
        assert spaces == {
            "quality": ("double", {"min": "0.001", "max": "1.0", "distribution": "logUniform"}),
            "kind": ("categorical", {"list": ["plain", "deep", "None"]}),
            "depth": ("int", {"min": "2", "max": "30", "step": "1", "distribution": "logUniform"}),
        }

    def test_a_trials_last_report_is_its_result_and_the_median_stops_after_the_first(self) -> None:
        spec = manifest()["spec"]
        assert spec["objective"]["metricStrategies"] == [{"name": "roc_auc", "value": "latest"}]
        settings = {item["name"]: item["value"] for item in spec["earlyStopping"]["algorithmSettings"]}
        assert settings == {"min_trials_required": "3", "start_step": "1"}
        assert "earlyStopping" not in manifest(folds=1)["spec"]
        assert "earlyStopping" not in manifest(pruning=False)["spec"]

    def test_trials_open_the_training_set_with_the_clusters_own_secret(self) -> None:
        (container,) = manifest()["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"]
        secrets = [item["valueFrom"]["secretKeyRef"] for item in container["env"] if "valueFrom" in item]
        assert {item["name"] for item in secrets} == {"mlpipeline-minio-artifact"}
        assert all(len(item.get("value", "")) < 128 * 1024 for item in container["env"])

    def test_the_threads_of_a_trial_soon_give_up_their_core_to_another_pod(self) -> None:
        (container,) = manifest()["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"]
        variables = {item["name"]: item.get("value") for item in container["env"]}
        assert variables["GOMP_SPINCOUNT"] == OPENMP_VARIABLES["GOMP_SPINCOUNT"]

    def test_its_name_says_what_is_searched_and_not_for_how_long(self) -> None:
        name = manifest()["metadata"]["name"]
        assert name.startswith("a-project-")
        assert name == manifest(trials=50, timeout_seconds=9)["metadata"]["name"]
        assert name != manifest(training={"seed": 1})["metadata"]["name"]

    @pytest.mark.parametrize(
        ("choices", "problem"), [(['a "quoted" one', "b"], "cannot be written"), (["1", 1], "read the same")]
    )
    def test_choices_that_text_cannot_carry_are_refused(self, choices: list[Any], problem: str) -> None:
        with pytest.raises(ContractViolation, match=f"tuning.space.kind.choices: .*{problem}"):
            manifest(space={"kind": {"type": "categorical", "choices": choices}})


class TestTheStep:
    def test_takes_the_best_reports_each_trial_and_leaves_nothing(
        self, place: Place, capsys: pytest.CaptureFixture[str]
    ) -> None:
        # Which trials the median stops depends on when they end, and the plots on how many come to their end.
        place.configure(pruning=False)
        metadata = place.search()
        found = place.parameters
        measured = {"trials", "best_value", "default_value", "folds"}
        assert set(found) == {"format", "estimator", "parameters", "remedy", "version", "adjustment", *measured}
        assert (found["remedy"], found["version"], found["adjustment"]) == ("retrain", "", None)
        assert found["trials"] == metadata["trials"] == 7
        assert found["parameters"]["quality"] == pytest.approx(found["best_value"])
        assert ("depth" in found["parameters"]) == (found["parameters"]["kind"] == "deep")
        assert found["parameters"]["max_iter"] == 30
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trial ")]
        assert len(lines) == 6
        assert all("best 0." in line for line in lines)
        name = metadata["experiment"]
        assert place.cluster.history == [f"created {name}", f"deleted {name}"]
        page = (place.folder / "study.html").read_text("utf-8")
        assert "src=" not in page
        for plot in ("Each trial and the best so far", "Each trial through its parameters", "What made the difference"):
            assert plot in page

    def test_keeps_the_default_where_no_trial_beats_it(self, place: Place) -> None:
        place.default = 0.999
        place.search()
        assert place.parameters["parameters"] == {"max_iter": 30}
        assert place.parameters["best_value"] == 0.999

    @pytest.mark.slow
    def test_a_trial_that_the_median_stopped_is_never_the_best(self, place: Place) -> None:
        place.trainer(seconds=0.2)
        place.configure(trials=10)
        place.search()
        # After the first fold each trial looks better by 0.5 than it is.
        assert place.parameters["best_value"] < 1
        assert "given up" in (place.folder / "study.html").read_text("utf-8")
        # Their pods would keep what they asked for.
        stopped = [name for name, state in place.cluster.ended.items() if state == "EarlyStopped"]
        assert stopped
        assert sorted(place.cluster.deleted_jobs) == sorted(stopped)

    def test_a_failed_trial_is_passed_over_with_its_reason(
        self, place: Place, capsys: pytest.CaptureFixture[str]
    ) -> None:
        place.trainer(worst=0.02)
        place.configure(trials=9, katib={"max_failed_trials": 8}, pruning=False)
        place.search()
        assert "cannot be trained, best" in capsys.readouterr().out
        assert "cannot be trained" in (place.folder / "study.html").read_text("utf-8")

    def test_too_many_failed_trials_stop_the_step_with_each_reason(self, place: Place) -> None:
        place.trainer(worst=2)
        place.configure(katib={"max_failed_trials": 1})
        with pytest.raises(ContractViolation, match=r"gave the experiment .* up after [23] failed trials") as refusal:
            place.search()
        assert str(refusal.value).count("cannot be trained") >= 2
        assert place.cluster.history[-1].startswith("deleted")
        assert not (place.folder / "parameters").exists()

    @pytest.mark.slow
    def test_the_time_limit_ends_it_with_the_best_so_far(
        self, place: Place, capsys: pytest.CaptureFixture[str]
    ) -> None:
        place.trainer(seconds=0.3)
        place.configure(trials=500, timeout_seconds=5)
        place.search()
        assert 1 < place.parameters["trials"] < 500
        assert "tuning.timeout_seconds (5) ended the search" in capsys.readouterr().out
        assert not place.cluster.trials

    @pytest.mark.slow
    def test_an_api_server_that_is_away_for_a_moment_is_waited_for(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.trainer(seconds=0.2)
        sleeping = time.sleep

        def break_it_once(seconds: float) -> None:
            monkeypatch.setattr(module, "time", time)
            place.cluster.failing = [503, 503, 503]
            sleeping(seconds)

        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=break_it_once, monotonic=time.monotonic))
        assert place.search()["trials"] == 7

    def test_an_api_server_that_refuses_is_quoted_with_the_remedy(self, place: Place) -> None:
        place.cluster.failing = [403]
        with pytest.raises(ContractViolation, match=r"could not list the experiments .*\(403\).*service account"):
            place.search()

    def test_an_experiment_that_someone_else_deleted_ends_the_step_in_plain_words(
        self, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        place.trainer(seconds=30)
        name = manifest_name(place)
        sleeping = time.sleep

        def delete_it(seconds: float) -> None:
            with place.cluster.lock:
                if name in place.cluster.experiments:
                    place.cluster.delete(name)
            sleeping(seconds)

        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=delete_it, monotonic=time.monotonic))
        with pytest.raises(ContractViolation, match=rf"could not follow the experiment {name}: .* not found \(404\)"):
            place.search()
        assert f"kubectl delete experiments.kubeflow.org {name} --namespace {NAMESPACE}" in capsys.readouterr().out

    @pytest.mark.slow
    def test_an_experiment_that_a_lost_step_left_goes_on(self, place: Place) -> None:
        place.trainer(seconds=0.2)
        place.configure(trials=5)
        name = manifest_name(place)
        process = start_step(place)
        wait_until(lambda: any(name in trial for trial in place.cluster.trials))
        process.kill()
        process.wait()
        assert place.search()["experiment"] == name
        assert place.cluster.history == [f"created {name}", f"deleted {name}"]

    @pytest.mark.slow
    def test_a_kept_experiment_goes_on_with_more_trials(self, place: Place) -> None:
        place.configure(trials=4, katib={"resume_policy": "LongRunning"})
        name = place.search()["experiment"]
        place.configure(trials=6, katib={"resume_policy": "LongRunning"})
        assert place.search()["trials"] == 6
        assert place.cluster.history == [f"created {name}", f"changed {name}"]

    @pytest.mark.slow
    def test_cancelling_it_deletes_the_experiment_and_its_trials(self, place: Place) -> None:
        place.trainer(seconds=30)
        process = start_step(place)
        wait_until(lambda: len(place.cluster.processes) == 2)
        trials = list(place.cluster.processes.values())
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) != 0
        assert place.cluster.history[-1].startswith("deleted")
        assert all(trial.poll() is not None for trial in trials)
        assert not (place.folder / "parameters").exists()

    def test_with_nothing_to_search_the_default_passes_through(self, place: Place) -> None:
        place.configure(space={})
        assert place.search()["trials"] == 1
        assert place.cluster.history == []


def manifest_name(place: Place) -> str:
    """The name that the step will give its experiment."""
    configuration = yaml.safe_load((place.folder / "pipeline.yaml").read_text("utf-8"))
    tuning = Tuning.model_validate(configuration["tuning"])
    settings = TrialSettings(
        training_set="s3://bucket/set",
        object_store=tuning.katib.object_store,
        training=configuration["training"],
        space=tuning.space,
        folds=tuning.folds,
        horizon_days=configuration["label"]["horizon_days"],
        stopping=True,
    )
    name: str = build_experiment(configuration["name"], NAMESPACE, "image:1", settings, tuning).metadata.name
    return name


STEP = """
import sys
from pathlib import Path
from kubeflow.katib import KatibClient
from kubernetes.client import Configuration
from kfp_lifecycle.components.training.tune_with_katib import search
from kfp_lifecycle.config.loading import load_configuration
search.POLL_SECONDS = 0.05
client = KatibClient(client_configuration=Configuration(host=sys.argv[2]), namespace=sys.argv[3])
place = Path(sys.argv[1])
settings = load_configuration(place)
search.search(settings, "s3://bucket/set", place / "default", "image:1", place / "parameters", place / "page", client)
"""


def start_step(place: Place) -> subprocess.Popen[bytes]:
    """The step in a process of its own."""
    default = Parameters(parameters={"max_iter": 30}, default_value=0.01, folds=["a fold"] * 2)
    default.write(place.folder / "default")
    address = f"http://127.0.0.1:{place.server.server_address[1]}"
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", STEP, str(place.folder), address, NAMESPACE], env=variables)


def wait_until(holds: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_trials_run_the_same_training_code_in_the_modelling_environment(place: Place) -> None:
    """The container's command as Katib wraps it, the code from the image, the training set from its address."""
    write = "import sys; from pathlib import Path; from tests.modelling.business import write_training_set as write\n"
    write += "write(Path(sys.argv[1]), rows=300)"
    python = interpreter("modelling")
    folder = place.folder / "set"
    subprocess.run([python, "-c", write, folder], check=True, env={**os.environ, "PYTHONPATH": LIBRARY})
    place.cluster.python = python.parent
    place.cluster.image = {"PYTHONPATH": LIBRARY}
    place.default = 0.5
    space = {
        "early_stopping": {"type": "categorical", "choices": [True, False]},
        "n_iter_no_change": {"type": "int", "low": 2, "high": 9, "when": {"early_stopping": True}},
        "learning_rate": SPACE["quality"],
    }
    place.configure(space=space, trials=3)
    found = place.search(training_set=str(folder))
    assert 0.6 < found["best_value"] < 0.95
    best = place.parameters["parameters"]
    assert isinstance(best["early_stopping"], bool)
    assert ("n_iter_no_change" in best) == best["early_stopping"]
