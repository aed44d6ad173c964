"""Where the figures of the documentation come from, where no word beside them says it.

`STATED` is what code and configuration have to agree with, sentence by sentence. `MEASURED` names the benchmark or the
test behind a section, which has to name it too. `GIVEN` is what others state of their own, and examples.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import distribution
from typing import Any

from documented import ROOT
from packaging.requirements import Requirement

from kfp_lifecycle.cli.explanation import explanation
from kfp_lifecycle.config.loading import parse_configuration
from kfp_lifecycle.environments.locks import pinned_requirements


@cache
def constants(file: str) -> Mapping[str, Any]:
    """What a module's names stand for, and the defaults of its functions and arguments, by reading it."""
    found: dict[str, Any] = {"range": range, "timedelta": lambda **hours: hours}
    for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name | ast.Tuple):
            names = [each.id for each in ast.walk(node.targets[0]) if isinstance(each, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            names = [node.target.id]
        if names:
            # What is computed from more than literals stays unknown.
            with suppress(Exception):
                value = eval(ast.unparse(node.value), {"__builtins__": {}}, found)  # type: ignore[attr-defined]
                found |= dict(zip(names, value, strict=True)) if len(names) > 1 else {names[0]: value}
    return found


def written(file: str, pattern: str) -> str:
    """What a file says where a pattern stands in it, such as a manifest or a program's argument."""
    found = re.search(pattern, (ROOT / file).read_text("utf-8"))
    assert found, f"{file} says nothing like {pattern}"
    return found[1]


@cache
def default(key: str) -> Any:
    """What a key of `pipeline.yaml` is where nobody sets it."""
    shown = next(line[2] for line in explanation(key) if line[0] == key)
    return json.loads(shown.removeprefix(", ").removesuffix(" by default").replace("\\[", "["))


@cache
def setting(project: str) -> Any:
    return parse_configuration((ROOT / project / "pipeline.yaml").read_text("utf-8"))


def lines(*files: str) -> int:
    """How many lines files of the second project have."""
    return sum(len((ROOT / "examples" / "cdnow" / file).read_text("utf-8").splitlines()) for file in files)


def installed_for(name: str, found: frozenset[str] = frozenset()) -> frozenset[str]:
    """What comes with a package that is installed without an extra, itself among them."""
    if (key := name.lower().replace("_", "-")) in found:
        return found
    found |= {key}
    for needed in map(Requirement, distribution(name).requires or []):
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            found = installed_for(needed.name, found)
    return found


MB = 2**20
SERVER, COLLECTOR = "serving/server", "serving/collector"
EVALUATE, DRIFT = "components/evaluation/evaluate_model", "components/monitoring/detect_drift"
REMEDY, OUTCOMES = "components/monitoring/decide_remedy", "components/monitoring/join_outcomes"
RECOMPUTE, TRAIN = "components/monitoring/recompute_features/recomputing.py", "components/training/train_model"
BUILD, NOTIFY = "components/features/build_training_set", "components/operations/notify/sending.py"


def of(file: str, name: str, unit: float = 1) -> Any:
    """A constant of a module, in a unit."""
    value = constants(file)[name]
    return value if unit == 1 else f"{value / unit:g}"


FILES = [
    "pipeline.yaml",
    "feature_repo/features.py",
    "feature_repo/history.sql",
    "feature_repo/recent.sql",
    "feature_repo/label.sql",
    "expectations/purchases.pbtxt",
    "expectations/rules.yaml",
]
WORDS = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen"),
]
ALERTS = re.findall(r"^## [A-Z]\w+[a-z][A-Z]\w+$", (ROOT / "docs" / "alerts.md").read_text("utf-8"), re.MULTILINE)
EXIT = constants("cli/console.py")
CHURN, CDNOW = setting("."), setting("examples/cdnow")
HORIZON = CHURN.label.horizon_days
PREDICTOR = "serving/release/kserve/predictor.py"
STATISTICS = of("serving/release/local/envoy.py", "STATISTICS_PORTS_BEYOND")
ALERT_MINUTES = written("monitoring/alert_rules.py", r"pace\.span\((30)\)")
OLDEST, BELOW = (int(written("pyproject.toml", rf'requires-python = "\S*{sign}3\.(\d+)')) for sign in (">=", "<"))
PYTHONS = [f"3.{minor}" for minor in range(OLDEST, BELOW)]

# By page: what it says, and what has to stand there.
STATED: Mapping[str, Mapping[str, Any]] = {
    "README.md": {
        "known at each of {} dates": WORDS[CHURN.snapshots.count],
        "steps run in ({} GB": written("cli/setup.py", r"take (\d+) GB"),
        "on {} packages, which are": len(installed_for("kfp-lifecycle")),
        "with CDNOW: {} lines": lines(*FILES),
        "of which {} are Python": lines("feature_repo/features.py"),
        "From a wheel, Python {}": f"{', '.join(PYTHONS[:-1])} or {PYTHONS[-1]}",
        "on Python {}, which TFDV needs": PYTHONS[0],
        "The exit code is {}, and the endpoint goes on": EXIT["EXIT_FAILED"],
        "below {} predictions, `undecided`": default("monitoring.min_window"),
        "{} the command or the configuration is wrong": EXIT["EXIT_USAGE"],
        "{} interrupted (Ctrl-C": EXIT["EXIT_INTERRUPTED"],
    },
    "docs/alerts.md": {
        "each of the {} is brought about": WORDS[len(ALERTS)],
        "an Alertmanager at {}.": written("monitoring/scrape_targets.py", r"LOOPBACK}:(\d+)\""),
        "the endpoint's port + {} and the next": STATISTICS,
        "({} and": default("deployment.http_port") + STATISTICS,
        "and {}); others": default("deployment.http_port") + STATISTICS + 1,
        "taken or above {} |": of("serving/ports.py", "CANDIDATES").stop - 1,
        "| `lifecycle` | {}, `lifecycle dashboard`": of("monitoring/scrape_targets.py", "PORT"),
        "mean score of the last {} minutes": ALERT_MINUTES,
        "for {} minutes, with at least `alerts.min_window`": written(
            "monitoring/alert_rules.py", r"pace\.span\((30)\)"
        ),
        "reads servers ({})": of(PREDICTOR, "HTTP_PORT"),
    },
    "docs/architecture.md": {
        "{} pipelines are made of these": WORDS[len(of("compilation/pipeline.py", "PIPELINES"))].capitalize(),
        "Argo refuses one above {:,} bytes": of("compilation/workflow_size.py", "LIMIT_BYTES"),
        "below {} KiB when it is submitted": of("tests/platform/test_workflow_size.py", "MOST_SUBMITTED", 1024),
        "below {} KiB at its end": of("tests/platform/test_workflow_size.py", "MOST_STORED", 1024),
        "({:,} characters on Kubeflow": of("tests/platform/test_workflow_size.py", "MOST_IN_PARAMETERS"),
        "about {:,} of a version at the most": of("monitoring/log_window.py", "LARGEST_SAMPLE"),
    },
    "docs/bring-your-own-project.md": {
        "| {} | source, entity, label": lines("pipeline.yaml"),
        "| {} | Feast: two views": lines("feature_repo/features.py"),
        "| {} | how each view is computed": lines("feature_repo/history.sql", "feature_repo/recent.sql"),
        "| {} | who is a customer": lines("feature_repo/label.sql"),
        "| {} | TFDV schema": lines("expectations/purchases.pbtxt"),
        "and {} stand after review": lines("expectations/purchases.pbtxt"),
        "| {} | five business rules": lines("expectations/rules.yaml"),
        "columns with fewer than {} values": of("projects/screening.py", "FEWEST_FILLED"),
        "from a ROC AUC of {} on) are left out": of("projects/profile.py", "KNOWS_LABEL"),
        "(below {} alone)": of("projects/profile.py", "KNOWS_LABEL"),
        "Fewer than {} rows of either value": of("projects/questions.py", "FEWEST_ROWS"),
        "below {} `training.min_class_rows`": of("projects/questions.py", "ENOUGH_ROWS"),
        "nothing for the next {} days": CDNOW.label.horizon_days,
        "`deployment.http_port` is {} here": CDNOW.deployment.http_port,
    },
    "docs/cluster-releases.md": {
        "mirror to port {} of the candidate": of(PREDICTOR, "SHADOW_PORT"),
        "an empty volume of {} GiB at the most": of(PREDICTOR, "SCRATCH_SIZE").removesuffix("Gi"),
        "a pause of {} s before a pod ends": of(PREDICTOR, "DRAIN_SECONDS"),
        "(more than {} MB waited)": of("serving/collector/pairing.py", "MOST_WAITING_BYTES", MB),
        "The exit code is {}. Refused are": EXIT["EXIT_USAGE"],
        "The lock has {} packages": len(pinned_requirements("serving")),
        "`min_replicas` {};": default("deployment.min_replicas"),
    },
    "docs/clusters.md": {
        "more than {} cores": written("compilation/vertex_refusals.py", r"Decimal\((\d+)\)"),
        "or {} GB, a folder": written("compilation/vertex_refusals.py", r", (\d+) \* 10\*\*9"),
        "{} what was asked is wrong": EXIT["EXIT_USAGE"],
        "{} cancelled": EXIT["EXIT_INTERRUPTED"],
        "with exit code {}; runs of a pipeline": EXIT["EXIT_USAGE"],
        "`lifecycle.commit` ({} digits)": written("compilation/step_pods.py", r"commit\[:(\d+)\]"),
        "half a core and {} GiB (": written("compilation/step_pods.py", r'"validate_data": .*memory="(\d+)Gi"'),
        "{} s, doubled each time": of("compilation/step_pods.py", "BACKOFF_SECONDS"),
        "writable for user {} by itself": of("serving/container.py", "USER"),
        "that it does not, after {:g} s": of("runtime/asking.py", "PATIENCE"),
    },
    "docs/dashboards.md": {"It asks Prometheus, at {} or": written("cli/dashboard.py", r"LOOPBACK}:(\d+)")},
    "docs/decision.md": {
        "less than {} worse on as many": CHURN.gate.champion.non_inferiority["roc_auc"],
    },
    "docs/demo.md": {"is known {} days after": HORIZON},
    "docs/deploy.md": {
        "MLflow {} on": written("deploy/base/mlflow.yaml", r"mlflow:v(\d+\.\d+)"),
        "on PostgreSQL {} |": written("deploy/base/postgresql.yaml", r"postgres:(\d+)"),
        "SeaweedFS {},": written("deploy/base/objects.yaml", r"seaweedfs:(\d+\.\d+)"),
        "S3 at port {} |": written("deploy/base/objects.yaml", r"port: (\d+)"),
        "Redis {} |": written("deploy/base/redis.yaml", r"redis:(\d+\.\d+)"),
        "({}; the API server's": written("deploy/base/network.yaml", r"port: (443)"),
        "the API server's {})": written("deploy/base/network.yaml", r"port: (6443)"),
    },
    "docs/evaluation.md": {
        "worth for {:,} entities": 1000,
        "(from {} on)": of(f"{EVALUATE}/leakage.py", "IS_LABEL"),
        "the strongest from {}": of(f"{EVALUATE}/leakage.py", "STRONGEST_MASKING"),
        "the weakest from {} on": of(f"{EVALUATE}/leakage.py", "WEAKEST_MASKING"),
        "noise of {} and": of(f"{EVALUATE}/robustness.py", "SMALL_NOISE"),
        "and {} standard deviations within": of(f"{EVALUATE}/robustness.py", "LARGE_NOISE"),
        "share of up to {} decisions": of(f"{EVALUATE}/decision_changes.py", "SEARCHED"),
    },
    "docs/features.md": {
        "computes {} rows twice": of(f"{BUILD}/clocks.py", "ROWS"),
        "beyond chance ({} standard errors)": of(f"{BUILD}/label_rate.py", "STANDARD_ERRORS"),
        "labels known after {} days go to test": HORIZON,
        "and train only after {} days": HORIZON * (1 + CHURN.split.validation_snapshots + CHURN.split.test_snapshots),
        "expire after {} hours": of("features/offline/bigquery.py", "EXPIRY")["hours"],
        "may differ by {} of their size": f"{of(f'{BUILD}/skew.py', 'TOLERANCE'):.0e}".replace("e-0", "e-"),
        "`feature_version` ({} digits of SHA-256)": written("features/definitions.py", r"hexdigest\(\)\[:(\d+)\]"),
    },
    "docs/how-to/air-gapped.md": {"| Python {} | on the PATH": PYTHONS[0]},
    "docs/index.md": {"with Python ({}) and make": f"{PYTHONS[0]} to {PYTHONS[-1]}"},
    "docs/tutorial.md": {
        "You need Python {},": f"{PYTHONS[0]} to {PYTHONS[-1]}",
        "{} GB of disk": int(written("cli/setup.py", r"take (\d+) GB")) + 1,  # and what a run writes
        "left within {} days": of("simulation/market.py", "HORIZON_DAYS"),
        "The exit code is {}, and the model": EXIT["EXIT_FAILED"],
    },
    "docs/monitoring.md": {
        "more than about {:,} rows of a version": of("monitoring/log_window.py", "LARGEST_SAMPLE"),
        "up to {:,} rows of the newest date": of(f"{TRAIN}/baseline.py", "NEWEST_ROWS"),
        "(least squares, p < {:.4f})": of(f"{DRIFT}/trend.py", "SIGNIFICANCE"),
        "up to {:,} of each of eleven dates": of(f"{TRAIN}/baseline.py", "FORMER_ROWS"),
        "those below {:.1%} or": of(f"{DRIFT}/measures.py", "RARE"),
        "lost at least {:.0%} of its values": of(f"{DRIFT}/faults.py", "LOST"),
        "has one in more than {:.0%} of them": of(f"{DRIFT}/faults.py", "ALL_DIFFERENT")
        + of(f"{DRIFT}/faults.py", "FILLED"),
        "at least {:.0%} of its values were never seen": of(f"{DRIFT}/faults.py", "UNKNOWN"),
        "such caller that has {:.0%} of the rows": of(f"{DRIFT}/callers.py", "LEAST_SHARE"),
        "nobody has {:.0%};": of(f"{DRIFT}/callers.py", "LEAST_SHARE"),
        "may be {:.4f} off": of(RECOMPUTE, "TIME_TOLERANCE"),
        "in more than {:.0%} of the requests": of(RECOMPUTE, "LARGEST_SHARE"),
        "had fewer than {} events": of(f"{OUTCOMES}/labels.py", "FEWEST_EVENTS"),
        "`monitoring.outcome_ratio` ({} times as many": default("monitoring.outcome_ratio"),
        "`monitoring.outcome_variation` of itself ({})": default("monitoring.outcome_variation"),
        "`monitoring.outcome_run_length` weeks ({})": default("monitoring.outcome_run_length"),
        "`monitoring.ranking_run_length` weeks at the most ({};": default("monitoring.ranking_run_length"),
        "one binomial count, p < {})": of(f"{REMEDY}/adjusting.py", "SIGNIFICANCE"),
        "of more than {:,} predictions it is linearised": of("monitoring/business.py", "MANY_ROWS"),
        "Of more than {:,} predictions about as many": of(f"{REMEDY}/logged.py", "MOST_ROWS"),
    },
    "docs/notifications.md": {"not said again: {:g} |": of(NOTIFY, "DEFAULT_HOURS")},
    "docs/releases.md": {
        "up to {} different requests": of("serving/release/replay.py", "MOST_REQUESTS"),
    },
    "docs/retraining.md": {"`current_days` ({})": default("monitoring.retraining.current_days")},
    "docs/serving.md": {
        "messages of up to {} MB": of(f"{SERVER}/grpc_service.py", "MESSAGE_BYTES", MB),
        "large requests ({})": of(f"{SERVER}/predictor.py", "MOST_BATCHES_WAITING"),
        "or lookups ({}) as may": of(f"{SERVER}/feature_lookup.py", "MOST_WAITING"),
        "more than {:,} connections": of(f"{SERVER}/http_protocol.py", "connections"),
        "Where all {:,} connections": of(f"{SERVER}/http_protocol.py", "connections"),
        "bodies over {} kB": of(f"{SERVER}/predictor.py", "BYTES_AT_ONCE", 1024),
        "in bodies of up to {:,} values": of(f"{SERVER}/repeated_members.py", "MOST_VALUES"),
        "more than {} rows are decoded": of(f"{SERVER}/predictor.py", "ROWS_AT_ONCE"),
        "kept nobody for {} ms": of(f"{SERVER}/feature_lookup.py", "PROMPT_SECONDS", 1e-3),
        "not answered within {:g} s": of(f"{SERVER}/feature_lookup.py", "LOOKUP_SECONDS"),
        "at one question for {:g} s is left": of(f"{SERVER}/feature_lookup.py", "STUCK_SECONDS"),
        "(measured by hand), {} waited": of(f"{SERVER}/feature_lookup.py", "MOST_WAITING"),
        "`--max_rows` ({:,})": int(written(f"{SERVER}/server.py", r'"--max_rows", type=int, default=([\d_]+)')),
        "`--max_body_mb` ({})": written(f"{SERVER}/server.py", r'"--max_body_mb", type=int, default=(\d+)'),
        "each of up to {} rows": of("modelling/attribution.py", "MOST_ROWS"),
        "keys of {} characters and more": of(f"{SERVER}/api_keys.py", "FEWEST_CHARACTERS"),
        "`TMPDIR`, {} MB at the most": of(f"{SERVER}/prediction_log.py", "SPILL_BYTES", MB),
    },
    "docs/sources.md": {
        "sorts them on disk beyond {} MB": written("components/data/ingest_data/source.py", r'MEMORY = "(\d+)MB"'),
        "a number of more than {} digits": of("connections/columns.py", "DOUBLE_DIGITS"),
        "of more than {:,} columns is refused": of("components/data/ingest_data/delimited.py", "MOST_COLUMNS"),
    },
    "docs/training.md": {
        "each of the {} most frequent values": of("modelling/estimator.py", "MOST_CATEGORIES"),
        "of a feature, and {} in all": of("modelling/estimator.py", "MOST_CATEGORY_COLUMNS"),
        "a matrix of more than {:,} columns": of("modelling/estimator.py", "WIDE_COLUMNS"),
        "sorts numbers into {} bins": of("modelling/estimator.py", "BINS_OF_WIDE"),
        "bins instead of {}, unless": of("modelling/estimator.py", "BINS"),
        "one by one, the {} features that": of("components/evaluation/evaluate_model/findings.py", "MOST_EXAMINED"),
        "fitted on {} groups of rows": of("modelling/calibration.py", "ISOTONIC_GROUPS"),
        "up to {:,} rows of each in which": of(f"{TRAIN}/parity.py", "DAMAGED_ROWS"),
        "differs by more than {} stops": f"{of(f'{TRAIN}/parity.py', 'LARGEST_DIFFERENCE'):.0e}".replace("e-0", "e-"),
        "1 they differ, {} it cannot be": EXIT["EXIT_USAGE"],
    },
    "docs/tuning.md": {"compiling ends with exit code {}": EXIT["EXIT_USAGE"]},
    "docs/validation.md": {"at most {} different values": of("data/table_statistics.py", "FEW_VALUES")},
    "examples/cdnow/README.md": {"buy nothing for {} days": CDNOW.label.horizon_days},
}

# Sections whose figures a benchmark or a test measured. The section names it, too.
MEASURED: Mapping[str, str] = {
    "docs/decision.md#How often it is wrong": "benchmarks/promotion.py",
    "docs/tuning.md#The estimator, too": "benchmarks/own_tables",
    "docs/monitoring.md#The verdict": "tests/modelling/test_remedy.py",
    "docs/training.md#ONNX is what is served": "tests/modelling/test_parity.py",
    "docs/validation.md#How often it is wrong": "benchmarks/validation_alarms.py",
}

# By page: figures that are nobody's here. What others state of their software or data, what stands as an example, and
# what was seen once by hand, where the words say so.
GIVEN: Mapping[str, list[str]] = {
    "docs/alerts.md": [
        "Knative's proxies (9091: `revision_request_*` up to Knative 1.18",
        "from 1.19 on",
        "it may last 23.5 hours",
        "25 hours together",
        "refused beyond 25 hours",
        "0.15 is 15 percent",
    ],
    "docs/architecture.md": ['("2,113,442 rows", "AUC 0.812", "version 3")'],
    "docs/bring-your-own-project.md": [
        "one file of 69,659 real purchases",
        "Here 600 customers of a German",
        "`45 kg`, 17 digits",
        "it proposed 68 lines",
    ],
    "docs/cluster-releases.md": [
        "KServe has to be later than 0.20",
        "Gateway API: 0.20 knows `spec.canary`",
        "no security context of its own (0.20)",
        "alias `v3` for version 3 of MLflow",
    ],
    "docs/clusters.md": [
        "the package, 2.22 | wants `google-cloud-aiplatform` below 2, where this library needs 2.7",
        "Kubeflow Pipelines 2.17",
        "a node of two cores and 8 GB",
        "a machine of 4 cores and 16 GB",
    ],
    "docs/comparison.md": ["1.16 of December 2024"],
    "docs/deploy.md": ["Kubeflow Pipelines 2.17 itself brings it"],
    "docs/evaluation.md": [
        "±1.96",
        "0.8 to 1.25 is `min: 0.8`",
    ],
    "docs/features.md": ["0.4 for an Int64, 0.3 for a Bool", "2⁵³ + 1 for a Float64", "| Spark 4.2 |"],
    "docs/monitoring.md": ["for 1,000 predictions", "to be read at 400 pixels"],
    "docs/serving.md": ["300 is no UINT8, 7 no BOOL, 1.5 no INT32", "12 digits of HMAC-SHA256"],
    "docs/sources.md": ["| ADBC | PostgreSQL 18 |", "MariaDB 10.11"],
    "docs/tuning.md": ["A run of 60 trials here"],
    "examples/cdnow/README.md": ["of the 23,570 people", "69,659 purchases"],
}
