"""One definition, one file for each target: whole, small enough for a cluster, the same bytes every time."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kfp import components as kfp_components

from compile import compile_command
from kfp_lifecycle.compilation.compiled_file import read_documents
from kfp_lifecycle.compilation.definitions import read_definitions
from kfp_lifecycle.compilation.pipeline import (
    PIPELINES,
    compile_components,
    compile_pipeline,
    components,
    recurrence,
)
from kfp_lifecycle.compilation.refusals import refuse_untranspilable
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.schedules import Schedules
from kfp_lifecycle.config.targets import TargetName

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = {"churn": ROOT, "cdnow": ROOT / "examples" / "cdnow"}
TARGETS: tuple[TargetName, ...] = ("local", "kubeflow", "vertex")
Compiled = Callable[[str, TargetName, str], Path]
COMPONENTS = components()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Gives the file of a pipeline of a project, compiled for a target."""
    folder = tmp_path_factory.mktemp("compiled")

    @functools.cache
    def compile_once(project: str, target: TargetName, name: str) -> Path:
        file = folder / project / target / f"{name}.yaml"
        compile_pipeline(name, target, PROJECTS[project], file)
        return file

    return compile_once


@pytest.mark.parametrize("project", ["churn", pytest.param("cdnow", marks=pytest.mark.slow)])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", PIPELINES)
class TestEveryPipeline:
    @pytest.mark.slow
    def test_is_loaded_by_kfp(self, compiled: Compiled, project: str, target: TargetName, name: str) -> None:
        file = compiled(project, target, name)
        spec = kfp_components.load_component_from_file(str(file)).pipeline_spec
        assert spec.pipeline_info.name.replace("-", "_") == name

    def test_says_nothing_of_pods_where_there_are_none(
        self, compiled: Compiled, project: str, target: TargetName, name: str
    ) -> None:
        documents = read_documents(compiled(project, target, name))
        # Vertex AI refuses a second document, and Kubeflow reads there what pods are given.
        assert len(documents) == (2 if target == "kubeflow" else 1)


@pytest.mark.parametrize("component", COMPONENTS.values(), ids=COMPONENTS)
def test_a_component_fits_one_screen_and_explains_every_argument(component: object) -> None:
    import inspect

    from kfp_lifecycle.runtime.component import LifecycleComponent

    assert isinstance(component, LifecycleComponent)
    source = inspect.getsource(sys.modules[component.function.__module__])
    assert len(source.splitlines()) <= 90
    documentation = inspect.getdoc(component.function) or ""
    undocumented = [
        name
        for name in inspect.signature(component.function).parameters
        if not re.search(rf"^\s+{name}: \S", documentation, re.MULTILINE)
    ]
    assert undocumented == []


@pytest.mark.slow
def test_compiling_twice_in_two_processes_and_folders_gives_the_same_bytes(tmp_path: Path) -> None:
    copy = tmp_path / "another checkout"
    shutil.copytree(
        ROOT,
        copy,
        ignore=shutil.ignore_patterns(".venv", ".lifecycle", ".git", "build", "__pycache__", ".mypy_cache"),
        symlinks=True,
    )
    digests = []
    for checkout, seed in ((ROOT, "0"), (copy, "1")):
        output = tmp_path / f"out-{seed}"
        subprocess.run(
            [sys.executable, "compile.py", "--target", "kubeflow", "--output", str(output)],
            cwd=checkout,
            # The commit is recorded where there is one, and a copy has none.
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": str(checkout / "src"),
                "TZ": f"UTC+{seed}",
                "GIT_DIR": str(tmp_path / "no repository"),
            },
            check=True,
            capture_output=True,
        )
        digests.append({file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in output.glob("*.yaml")})
    assert digests[0] == digests[1]
    assert len(digests[0]) == len(PIPELINES)


@pytest.mark.slow
def test_every_component_can_be_loaded_from_its_own_yaml(tmp_path: Path) -> None:
    files = compile_components(tmp_path)
    assert len(files) == len(COMPONENTS) >= 20
    for file in files:
        loaded = kfp_components.load_component_from_file(str(file))
        assert loaded.name.replace("-", "_") == file.stem


def test_no_component_pipeline_or_server_names_a_column_of_a_project() -> None:
    columns = re.compile(
        r"\b(customer_id|monthly_charge|signed_up_at|last_login|logged_in_at|purchased_at|total_purchases|churned|lapsed)\b"
    )
    named = [
        f"{file.relative_to(ROOT)}: {match[0]}"
        for folder in (
            "components",
            "pipelines",
            "serving",
            "local",
            "config",
            "monitoring",
            "features",
            "modelling",
            "reports",
        )
        for file in sorted((ROOT / folder).rglob("*.py"))
        for match in columns.finditer(file.read_text())
    ]
    assert named == []


def test_a_target_whose_stores_are_not_configured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not say where vertex keeps things"):
        compile_pipeline("training", "vertex", ROOT, tmp_path / "x.yaml", overrides=["targets={}"])


WAREHOUSES = ("bigquery://project/features", "snowflake://me:${PASSWORD}@account/shop/public", "sc://spark:15002")


@pytest.mark.parametrize("offline_store", WAREHOUSES)
@pytest.mark.parametrize("project", PROJECTS)
def test_the_definitions_of_both_projects_are_understood_by_every_warehouse(project: str, offline_store: str) -> None:
    configuration = load_configuration(PROJECTS[project])
    files = read_definitions(PROJECTS[project], configuration)["feature_repo"]
    assert refuse_untranspilable(configuration, files, offline_store) is None


@pytest.mark.parametrize(
    ("sql", "refused"),
    [
        ("SELECT customer_id, median(amount) FROM purchases GROUP BY ALL", "MEDIAN(amount)"),
        ("SELECT customer_id, max_by(category, (purchased_at, amount)) FROM purchases GROUP BY 1", "(purchased_at, "),
        ("SELECT customer_id, extract(dow FROM purchased_at) FROM purchases", "EXTRACT(DAYOFWEEK FROM purchased_at)"),
        ("SELECT customer_id, date_trunc('week', purchased_at) FROM purchases", "DATE_TRUNC('WEEK', purchased_at)"),
        ("SELECT customer_id, date_diff('hour', purchased_at, $as_of) FROM purchases", "DATE_DIFF('HOUR'"),
        ("SELECT customer_id, made_up(amount) FROM purchases", "MADE_UP(amount)"),
        ("SELECT customer_id, category LIKE 'a\\_%' FROM purchases", "category LIKE 'a\\_%'"),
        ("SELECT customer_id, probability FROM truth", "a feature is computed from customers, "),
        ("SELECT customer_id FROM elsewhere.customers", "elsewhere.customers"),
        ("SELECT customer_id FROM read_parquet('/etc/passwd')", "READ_PARQUET('/etc/passwd')"),
        ("SELECT * FROM customers ASOF JOIN logins USING (customer_id, recorded_at)", "ASOF JOIN logins"),
        ("SELECT DISTINCT ON (customer_id) * FROM logins", "DISTINCT ON"),
    ],
)
def test_a_definition_that_a_warehouse_might_read_otherwise_is_refused_when_compiling(sql: str, refused: str) -> None:
    configuration = load_configuration(ROOT)
    files = read_definitions(ROOT, configuration)["feature_repo"]
    files["spending.sql"] = sql.encode()
    for offline_store in WAREHOUSES:
        with pytest.raises(ConfigurationError, match=r"^feature_repo/spending\.sql: .* offline_store: duckdb") as error:
            refuse_untranspilable(configuration, files, offline_store)
        assert refused in str(error.value)
    assert refuse_untranspilable(configuration, files, "duckdb") is None


@pytest.mark.parametrize(
    ("target", "setting", "message"),
    [
        ("kubeflow", "deployment.strategy=shadow", "kserve:churn cannot mirror requests: choose canary or blue_green"),
        ("vertex", "deployment.strategy=shadow", "cannot mirror requests: choose canary or blue_green"),
        ("kubeflow", "deployment.prediction_log.key=hashed", "no secret of the target becomes the variable LIFECYCLE_"),
        ("vertex", "deployment.prediction_log.key=hashed", "no secret of the target becomes the variable LIFECYCLE_"),
        ("vertex", "deployment.server.api_keys=/keys", "hands no header on by which a server would know"),
        ("kubeflow", "deployment.server.api_keys=s3cret", "a secret is never written here"),
        ("kubeflow", "targets.kubeflow.serving=local:/srv", "can keep no server: name kserve:NAMESPACE"),
        ("vertex", "targets.vertex.serving=kserve:churn", "no account in a Kubernetes cluster: name vertex:PROJECT"),
        ("kubeflow", "targets.kubeflow.prediction_log=az://log", "a folder of an object store"),
    ],
)
def test_what_no_step_could_do_on_a_target_is_refused_when_compiling(
    target: str, setting: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--target", target, "--pipeline", "training", "--output", str(tmp_path / "out"), "--set", setting]
    assert compile_command(command) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_shadow_release_compiles_for_kserve_where_a_gateway_mirrors(tmp_path: Path) -> None:
    file = tmp_path / "training.yaml"
    overrides = ["deployment.strategy=shadow", "targets.kubeflow.servers.mode=standard"]
    compile_pipeline("training", "kubeflow", ROOT, file, overrides=overrides)
    assert file.is_file()


def test_a_shadow_release_compiles_for_this_machine(tmp_path: Path) -> None:
    file = tmp_path / "monitoring.yaml"
    compile_pipeline("monitoring", "local", ROOT, file, overrides=["deployment.strategy=shadow"])
    assert file.is_file()


def test_secrets_and_volumes_of_kubeflow_reach_every_step_and_stay_out_of_vertex(tmp_path: Path) -> None:
    secrets = "{mlflow: {password: MLFLOW_TRACKING_PASSWORD}, hook: {url: LIFECYCLE_NOTIFY_URLS}}"
    overrides = [f"targets.kubeflow.secrets={secrets}", "targets.kubeflow.volumes={predictions: /var/log/predictions}"]
    kubeflow, vertex = tmp_path / "kubeflow.yaml", tmp_path / "vertex.yaml"
    compile_pipeline("monitoring", "kubeflow", ROOT, kubeflow, overrides=overrides)
    compile_pipeline("monitoring", "vertex", ROOT, vertex, overrides=overrides)
    pipeline, platform = read_documents(kubeflow)
    steps = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    executors = pipeline["deploymentSpec"]["executors"]
    assert set(steps) == {name for name, executor in executors.items() if "container" in executor}
    for step in steps.values():
        variables = {
            (item["secretName"], pair["secretKey"]): pair["envVar"]
            for item in step["secretAsEnv"]
            for pair in item["keyToEnv"]
        }
        assert variables == {
            ("mlflow", "password"): "MLFLOW_TRACKING_PASSWORD",
            ("hook", "url"): "LIFECYCLE_NOTIFY_URLS",
        }
        (volume,) = step["pvcMount"]
        assert (volume["constant"], volume["mountPath"]) == ("predictions", "/var/log/predictions")
    assert "secrets" not in pipeline["root"]["inputDefinitions"]["parameters"]
    assert len(read_documents(vertex)) == 1


def test_the_order_of_the_steps_is_in_their_data() -> None:
    text = "\n".join(file.read_text() for file in (ROOT / "pipelines").glob("*.py"))
    assert ".after(" not in text


@pytest.mark.parametrize(
    ("name", "target", "cron"),
    [
        ("materialization", "kubeflow", "0 0 5 * * *"),
        ("materialization", "vertex", "TZ=UTC 0 5 * * *"),
        ("materialization", "local", ""),
        ("training", "kubeflow", ""),
    ],
)
def test_a_pipeline_recurs_as_the_project_says_in_the_targets_own_words(
    name: str, target: TargetName, cron: str
) -> None:
    assert recurrence(load_configuration(ROOT), name, target) == cron


def test_every_pipeline_can_be_made_to_recur() -> None:
    assert set(Schedules.model_fields) == set(PIPELINES)
