"""A stand-in for a cluster with Katib: the API server's paths, and a controller that really runs trials' containers.

What Katib does with an experiment is restated from version 0.19:
`pkg/webhook/v1beta1/experiment/validator` (what it refuses), `pkg/controller.v1beta1/experiment/manifest` (how a trial
is made of its template), `pkg/webhook/v1beta1/pod` (how a container's command is wrapped),
`cmd/metricscollector/v1beta1/file-metricscollector` (when a trial is stopped) and
`pkg/earlystopping/v1beta1/medianstop` (the median, which is a mean there). Katib's own controllers run in `tests/node`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.katib_rules import collect, observe

# Where Katib's client works outside a cluster.
NAMESPACE = "default"
DISTRIBUTIONS = ("uniform", "logUniform", "normal", "logNormal")
Json = dict[str, Any]

# Stands for the training: as good as `quality` says, after the first fold better than after the second.
TRAINER = """import json, os, sys, time
from datetime import datetime, timezone
assert sys.argv[1:] == ["-m", "kfp_lifecycle.tuning.trial"]
quality = float(json.loads(os.environ["TRIAL_PARAMETERS"])["quality"])
if quality < {worst}:
    open(os.environ["TERMINATION_LOG"], "w").write(f"quality {{quality:.3f}} cannot be trained")
    sys.exit(1)
for value in (quality + 0.5, quality):
    print(datetime.now(timezone.utc).isoformat().replace("+00:00", "Z"), f"roc_auc={{value}}", flush=True)
    time.sleep({seconds})
"""


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def write_trainer(folder: Path, worst: float = 0, seconds: float = 0.0) -> None:
    """Put a `python` into a folder that trains nothing.

    Args:
        folder: The folder for `Cluster.python`.
        worst: A lower quality than this fails, with a reason.
        seconds: How long each fold takes.
    """
    file = folder / "python"
    file.parent.mkdir(exist_ok=True)
    trainer = folder / "trainer.py"
    trainer.write_text(TRAINER.format(worst=worst, seconds=seconds), "utf-8")
    # The first line of a script cannot name an interpreter whose path has a space in it.
    file.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{trainer}" "$@"\n', "utf-8")
    file.chmod(0o755)


def problems(experiment: Json) -> list[str]:
    """What Katib's webhook would refuse in an experiment."""
    spec, name = experiment["spec"], experiment["metadata"]["name"]
    template = spec["trialTemplate"]
    text = json.dumps(template["trialSpec"])
    for parameter in template["trialParameters"]:
        text = text.replace(f"${{trialParameters.{parameter['name']}}}", "test-value")
    names = [parameter["name"] for parameter in spec["parameters"]]
    spaces = [(parameter["parameterType"], parameter["feasibleSpace"]) for parameter in spec["parameters"]]
    rules = {
        "name": bool(re.match(r"^[a-z]([-a-z0-9]*[a-z0-9])?", name)) and len(name) <= 40,
        "maxTrialCount": spec["maxTrialCount"] > 0,
        "parallelTrialCount": 0 < spec["parallelTrialCount"] <= spec["maxTrialCount"],
        "maxFailedTrialCount": 0 <= spec["maxFailedTrialCount"] <= spec["maxTrialCount"],
        "objective": spec["objective"]["type"] in ("minimize", "maximize") and spec["objective"]["objectiveMetricName"],
        "algorithm": spec["algorithm"]["algorithmName"] == "tpe",
        "earlyStopping": spec.get("earlyStopping", {}).get("algorithmName", "medianstop") == "medianstop",
        "resumePolicy": spec["resumePolicy"] in ("Never", "LongRunning", "FromVolume"),
        "parameters": names and len(set(names)) == len(names),
        "parameterType": all(kind in ("int", "double", "categorical") for kind, _ in spaces),
        "list": all(("list" in space) == (kind == "categorical") for kind, space in spaces),
        "bounds": all(("min" in space and "max" in space) == (kind != "categorical") for kind, space in spaces),
        "distribution": all(space.get("distribution", "uniform") in DISTRIBUTIONS for _, space in spaces),
        "references": sorted(item["reference"] for item in template["trialParameters"]) == sorted(names),
        "placeholders": "${trialParameters." not in text and text.count("test-value") == len(names),
        "trialSpec": template["trialSpec"]["kind"] == "Job",
        "primaryContainer": template["primaryContainerName"]
        in [item["name"] for item in template["trialSpec"]["spec"]["template"]["spec"]["containers"]],
    }
    return [rule for rule, holds in rules.items() if not holds]


@dataclass
class Cluster:
    """Its state, and what trials' containers find there.

    Attributes:
        folder: For the containers' files.
        python: Folder of the `python` that containers run.
        image: Variables that their image sets.
        failing: Status that the API answers the next requests with, first to last.
    """

    folder: Path
    python: Path
    image: dict[str, str] = field(default_factory=dict)
    experiments: dict[str, Json] = field(default_factory=dict)
    trials: dict[str, Json] = field(default_factory=dict)
    pods: dict[str, Json] = field(default_factory=dict)
    reports: dict[str, list[float]] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    ended: dict[str, str] = field(default_factory=dict)
    """How each trial ended, in the order in which they did."""
    deleted_jobs: list[str] = field(default_factory=list)
    failing: list[int] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def create(self, experiment: Json) -> tuple[int, Json]:
        """Admit an experiment and start its controller."""
        name = experiment["metadata"]["name"]
        wrong = problems(experiment)
        if wrong:
            return 400, {"message": f"admission webhook denied the request: {', '.join(wrong)}"}
        if name in self.experiments:
            return 409, {"message": f'experiments "{name}" already exists'}
        experiment["metadata"]["creationTimestamp"] = now()
        experiment["status"] = {"conditions": [condition("Created")]}
        self.experiments[name] = experiment
        self.history.append(f"created {name}")
        threading.Thread(target=self._control, args=(experiment,), daemon=True).start()
        return 201, experiment

    def delete(self, name: str) -> tuple[int, Json]:
        """Remove an experiment with all that it owns."""
        if name not in self.experiments:
            return 404, {"message": f'experiments "{name}" not found'}
        removed = self.experiments.pop(name)
        self.history.append(f"deleted {name}")
        for trial in [item for item in self.trials if item.startswith(f"{name}-")]:
            process = self.processes.pop(trial, None)
            if process is not None and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            del self.trials[trial]
            self.pods.pop(trial, None)
        return 200, removed

    def edit(self, name: str, changed: Json) -> tuple[int, Json]:
        """Change an experiment's budget; one that succeeded and kept its suggestion goes on, after a moment."""
        experiment = self.experiments[name]
        finished = [item for item in experiment["status"]["conditions"] if item["type"] == "Succeeded"]
        if finished and experiment["spec"]["resumePolicy"] == "Never":
            return 400, {"message": "Experiment can be restarted if spec.resumePolicy = LongRunning or FromVolume"}
        experiment["spec"] |= changed["spec"]
        self.history.append(f"changed {name}")

        def restart() -> None:
            time.sleep(0.2)
            with self.lock:
                finished[0]["status"] = "False"
            self._control(experiment)

        if finished:
            threading.Thread(target=restart, daemon=True).start()
        return 200, experiment

    def close(self) -> None:
        """End what runs."""
        with self.lock:
            for name in list(self.experiments):
                self.delete(name)

    def _control(self, experiment: Json) -> None:
        """Keep trials running until enough ended, as the experiment controller does."""
        name, spec = experiment["metadata"]["name"], experiment["spec"]
        number = len(self._states(name))
        chance = random.Random(int(spec["algorithm"]["algorithmSettings"][0]["value"]) + number)
        while True:
            with self.lock:
                if self.experiments.get(name) is not experiment:
                    return
                states = self._states(name)
                running, failed = states.count(""), states.count("Failed") + states.count("MetricsUnavailable")
                self._write_status(experiment, states)
                if failed > spec["maxFailedTrialCount"]:
                    self._finish(experiment, "Failed", "Experiment has failed because max failed trials reached")
                    return
                if len(states) - running >= spec["maxTrialCount"]:
                    self._finish(experiment, "Succeeded", "Experiment has succeeded because max trials reached")
                    return
                if running < spec["parallelTrialCount"] and len(states) < spec["maxTrialCount"]:
                    number += 1
                    self._start(experiment, f"{name}-{number:08x}", chance)
                    continue
            time.sleep(0.02)

    def _states(self, name: str) -> list[str]:
        return [state_of(trial) for key, trial in self.trials.items() if key.startswith(f"{name}-")]

    def _write_status(self, experiment: Json, states: list[str]) -> None:
        counts = {"trialsRunning": states.count(""), "trialsSucceeded": states.count("Succeeded")}
        experiment["status"] |= {"trials": len(states), **counts, "trialsFailed": states.count("Failed")}

    def _finish(self, experiment: Json, kind: str, message: str) -> None:
        experiment["status"]["conditions"] += [condition("Running", "False"), condition(kind, message=message)]
        experiment["status"]["completionTime"] = now()

    def _start(self, experiment: Json, name: str, chance: random.Random) -> None:
        spec = experiment["spec"]
        assignments = {item["name"]: draw(item, chance) for item in spec["parameters"]}
        text = json.dumps(spec["trialTemplate"]["trialSpec"])
        for parameter in spec["trialTemplate"]["trialParameters"]:
            text = text.replace(f"${{trialParameters.{parameter['name']}}}", assignments[parameter["reference"]])
        rules = self._median_rule(experiment)
        trial: Json = {
            "apiVersion": "kubeflow.org/v1beta1",
            "kind": "Trial",
            "metadata": {"name": name, "namespace": NAMESPACE, "creationTimestamp": now()},
            "spec": {
                "objective": spec["objective"],
                "parameterAssignments": [{"name": key, "value": value} for key, value in assignments.items()],
                "earlyStoppingRules": rules,
                "runSpec": json.loads(text),
            },
            "status": {"startTime": now(), "conditions": [condition("Created"), condition("Running")]},
        }
        trial["metadata"]["labels"] = {"katib.kubeflow.org/experiment": experiment["metadata"]["name"]}
        self.trials[name] = trial
        (container,) = trial["spec"]["runSpec"]["spec"]["template"]["spec"]["containers"]
        place = self.folder / name
        place.mkdir(parents=True)
        # What the pod webhook makes of the container's command.
        assert container["command"] == ["sh", "-c"]
        words = [*container["args"], f"1>{place / 'metrics.log'} 2>&1", "&&", f"echo completed > {place}/$$.pid"]
        self.processes[name] = subprocess.Popen(
            [*container["command"], " ".join(words)],
            env={**self._variables(container), "TERMINATION_LOG": str(place / "termination-log")},
            cwd=place,
            start_new_session=True,
        )
        threading.Thread(target=self._collect, args=(experiment, name, rules), daemon=True).start()

    def _variables(self, container: Json) -> dict[str, str]:
        secret = {"accesskey": "key", "secretkey": "secret"}
        variables = {
            item["name"]: item["value"] if "value" in item else secret[item["valueFrom"]["secretKeyRef"]["key"]]
            for item in container["env"]
        }
        return {**self.image, **variables, "PATH": f"{self.python}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def _median_rule(self, experiment: Json) -> list[Json]:
        stopping = experiment["spec"].get("earlyStopping")
        if stopping is None:
            return []
        settings = {item["name"]: int(item["value"]) for item in stopping["algorithmSettings"]}
        succeeded = [key for key, trial in self.trials.items() if state_of(trial) == "Succeeded"]
        if len(succeeded) < settings["min_trials_required"]:
            return []
        averages = [statistics.fmean(self.reports[key][: settings["start_step"]]) for key in succeeded]
        metric = experiment["spec"]["objective"]["objectiveMetricName"]
        return [{"name": metric, "value": str(statistics.fmean(averages)), "comparison": "less", "startStep": 1}]

    def _collect(self, experiment: Json, name: str, rules: list[Json]) -> None:
        """Read a trial's output while it runs, stop it when its rule says so, and write how it ended."""
        process, log = self.processes[name], self.folder / name / "metrics.log"
        metric = experiment["spec"]["objective"]["objectiveMetricName"]
        stopped = False
        while process.poll() is None:
            lines = log.read_text("utf-8").splitlines() if log.exists() else []
            if rules and not stopped and (found := collect(lines, metric)) and found[0][1] < float(rules[0]["value"]):
                # The collector wants exactly one child, and ends it; one that ended by itself meanwhile is left alone.
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii").split()
                with contextlib.suppress(ProcessLookupError):
                    for child in children:
                        assert len(children) == 1
                        os.kill(int(child), signal.SIGTERM)
                        stopped = True
            time.sleep(0.02)
        reports = collect(log.read_text("utf-8").splitlines(), metric)
        with self.lock:
            trial = self.trials.get(name)
            if trial is None:
                return
            self.reports[name] = [value for _, value in reports]
            trial["status"]["completionTime"] = now()
            if reports:
                trial["status"]["observation"] = {"metrics": [{"name": metric, **observe(reports)}]}
            if stopped:
                ended = condition("EarlyStopped", message="Trial is early stopped")
            elif process.returncode:
                ended = condition("Failed", message="Trial has failed", reason="BackoffLimitExceeded")
            else:
                ended = condition("Succeeded" if reports else "MetricsUnavailable")
            trial["status"]["conditions"] += [condition("Running", "False"), ended]
            self.ended[name] = ended["type"]
            said = self.folder / name / "termination-log"
            message = said.read_text("utf-8") if said.exists() else ""
            state = {"terminated": {"exitCode": process.returncode, "reason": "Error", "message": message}}
            labels = {"katib.kubeflow.org/trial": name}
            status = {"name": "training", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": state}
            self.pods[name] = {"metadata": {"name": name, "labels": labels}, "status": {"containerStatuses": [status]}}


def condition(kind: str, status: str = "True", message: str = "", reason: str = "") -> Json:
    return {"type": kind, "status": status, "message": message, "reason": reason, "lastUpdateTime": now()}


def state_of(trial: Json) -> str:
    """How a trial ended; empty while it runs."""
    last = trial["status"]["conditions"][-1]
    return "" if last["type"] == "Running" else str(last["type"])


def draw(parameter: Json, chance: random.Random) -> str:
    """A value of a parameter, as its suggestion service writes it."""
    space = parameter["feasibleSpace"]
    if parameter["parameterType"] == "categorical":
        return str(chance.choice(space["list"]))
    low, high = float(space["min"]), float(space["max"])
    logarithmic = space.get("distribution") == "logUniform"
    value = math.exp(chance.uniform(math.log(low), math.log(high))) if logarithmic else chance.uniform(low, high)
    return str(round(value)) if parameter["parameterType"] == "int" else str(value)


def serve(cluster: Cluster) -> ThreadingHTTPServer:
    """The API server; its address is `server_address`."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def _answer(self, status: int, body: Json) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            place, query = urlsplit(self.path), parse_qs(urlsplit(self.path).query)
            parts = unquote(place.path).strip("/").split("/")
            with cluster.lock:
                if cluster.failing:
                    status = cluster.failing.pop(0)
                    self._answer(status, {"message": "the server is currently unable to handle the request"})
                elif parts[:2] == ["api", "v1"]:
                    wanted = query.get("labelSelector", [""])[0].partition("=")[2]
                    self._answer(200, {"items": [pod for key, pod in cluster.pods.items() if key == wanted]})
                elif parts[:2] == ["apis", "batch"]:
                    assert (self.command, parts[5]) == ("DELETE", "jobs")
                    cluster.deleted_jobs.append(parts[6])
                    self._answer(200, {"kind": "Status", "status": "Success"})
                else:
                    assert parts[:4] == ["apis", "kubeflow.org", "v1beta1", "namespaces"], parts
                    assert parts[4] == NAMESPACE
                    self._answer(*self._custom(parts[5], parts[6] if len(parts) > 6 else "", body))

        def _custom(self, plural: str, name: str, body: Json) -> tuple[int, Json]:
            kept = {"experiments": cluster.experiments, "trials": cluster.trials}[plural]
            if self.command == "POST":
                return cluster.create(body)
            if self.command == "DELETE":
                return cluster.delete(name)
            if not name:
                return 200, {"items": list(kept.values())}
            if name not in kept:
                return 404, {"message": f'{plural} "{name}" not found'}
            return cluster.edit(name, body) if self.command == "PATCH" else (200, kept[name])

        do_GET = do_POST = do_DELETE = do_PATCH = _handle

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
