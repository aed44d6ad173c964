"""A small model that is released, asked and watched: by a Prometheus, an Alertmanager, and `lifecycle dashboard`."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from local_release import INPUTS, ROOT, Place, make_model
from running_prometheus import PROMETHEUS, Runs, Team, alertmanager, answers_ok, inhibited, program, until, windows
from served_place import serving_place

from kfp_lifecycle.artifacts.prediction_log import day_folder
from kfp_lifecycle.cli.dashboard import answers
from kfp_lifecycle.cli.standing import Known
from kfp_lifecycle.config.alerts import Alerts
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.monitoring.alert_rules import Pace, alert_rules
from kfp_lifecycle.monitoring.dashboards.server import Answer, dashboard_server
from kfp_lifecycle.monitoring.dashboards.sources import Prometheus, Source
from kfp_lifecycle.monitoring.scrape_targets import prometheus_configuration
from kfp_lifecycle.serving.client import v2_request
from kfp_lifecycle.serving.ports import free_ports
from kfp_lifecycle.serving.release.local.history import Event, record
from kfp_lifecycle.serving.release.local.supervisor import FOLDER
from kfp_lifecycle.serving.server.log_storage import spools_of

# A minute of the rules. What is read once a second is read twice in five of them.
PACE = Pace(minute_seconds=0.5)
# Any request is slower, and a person who asks now and then is enough.
THRESHOLDS = Alerts(
    max_latency_p95_ms=0.001,
    min_predictions_per_second=0.5,
    min_window=5,
    max_missing_rise=0.01,
)
# The temperatures of the devices in the store: of one nobody knows it, of one it holds what cannot be.
TEMPERATURES = [20.0, None, float("inf")]


def of_devices(*keys: int) -> dict[str, Any]:
    """A request for the scores of devices that the store knows."""
    return {"inputs": [{"name": "device_id", "datatype": "INT64", "shape": [len(keys)], "data": list(keys)}]}


WELL, UNKNOWN, IMPOSSIBLE = (of_devices(key) for key in range(len(TEMPERATURES)))
MANY = of_devices(*[0] * 200)
# As the first of them, without the store; another that has twice its score; and that score, by the small model's
# formula.
USUAL, HOT = (v2_request(INPUTS, [{"temperature": degrees, "site": "north"}]) for degrees in (20.0, 100.0))
EXPECTED_SCORE = 0.45


class Asking:
    """Somebody who asks the same few questions in turn, twenty times a second, until there are none."""

    def __init__(self, place: Place, *questions: object) -> None:
        self.questions = questions
        self._place, self._stopped = place, threading.Event()

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """Ask meanwhile."""
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join()

    def _ask(self) -> None:
        while not self._stopped.wait(0.05):
            for question in self.questions:
                self._place.ask(question)


class Store:
    """What fills the servers' online store."""

    def __init__(self, model: Path, location: str) -> None:
        command = [str(interpreter("modelling")), str(ROOT / "tests" / "device_store.py"), str(model), location]
        self._filling = subprocess.Popen(
            [*command, json.dumps(TEMPERATURES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        )

    def is_as_old_as(self, share: float) -> None:
        """Let it be so old, as a share of the time after which all features count as missing."""
        assert self._filling.stdin is not None
        assert self._filling.stdout is not None
        self._filling.stdin.write(f"{share}\n")
        self._filling.stdin.flush()
        assert self._filling.stdout.readline() == f"{share}\n"

    def close(self) -> None:
        """End what fills it."""
        self._filling.communicate()


@contextlib.contextmanager
def serving(answers: Mapping[str, Answer], port: int = 0) -> Iterator[str]:
    """Serve what a dashboard tells; gives its address."""
    with dashboard_server(port, answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Watched:
    """All of it."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.place, self.folder = place, folder
        place.online_store = str(folder / "online.db")
        self.configuration = load_configuration(ROOT, ["deployment.model=devices"])
        self.own_port, self.prometheus_port, self.alertmanager_port = free_ports(3)
        self.prometheus = Prometheus(f"http://127.0.0.1:{self.prometheus_port}")
        self.team, self.asking = Team(), Asking(place, WELL, HOT)
        # Nobody has looked for three days.
        self.runs = Runs(datetime.now(UTC) - timedelta(days=3))
        self.known = Known(self.configuration, self.runs, place.serving, windows)  # type: ignore[arg-type]
        self.dashboard = self.tells(self.prometheus)
        """What is served where Prometheus asks; nothing, as long as nothing is in it."""
        # Nothing is logged: files are where today's folder would be, tomorrow's, and the one for what a log refuses.
        log, now = place.predictions / "devices", datetime.now(UTC)
        days = [log / day_folder(now + timedelta(days=later)) for later in (0, 1)]
        self._in_the_way = [*days, place.serving / FOLDER / "tmp" / spools_of(str(log)).name]

    def tells(self, source: Source) -> dict[str, Answer]:
        """What `lifecycle dashboard` serves, by path."""
        return answers(self.known, lambda: source, THRESHOLDS, 1)

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """A version that learned long ago, of a model that was first released a month ago, with a store that ages."""
        month_ago = datetime.now(UTC) - timedelta(days=30)
        for file in self._in_the_way:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        record(self.place.serving, Event("devices", "0", None, "promoted", at=month_ago.isoformat()))
        model = self._model("1", learned_until=datetime(2020, 1, 1, tzinfo=UTC))
        self.store = Store(model, self.place.online_store)
        try:
            self.store.is_as_old_as(0.6)
            self.place.release(model)
            yield
        finally:
            self.store.close()

    def _model(self, version: str, learned_until: datetime) -> Path:
        folder = make_model(self.folder / f"model {version}", version)
        described = json.loads((folder / "model.json").read_text())
        described |= {"expected_score": EXPECTED_SCORE, "learned_until": f"{learned_until:%Y-%m-%d}"}
        (folder / "model.json").write_text(json.dumps(described))
        return folder

    def clear_the_log(self) -> None:
        """Let the servers log what they answer from now on."""
        for file in self._in_the_way:
            file.unlink()

    def keeps_to_itself(self, alert: str, for_the_sake_of: str) -> None:
        """Wait until Alertmanager knows of an alert, and does not tell it because of another."""
        until(
            lambda: for_the_sake_of in inhibited(self.alertmanager_port, alert),
            f"{alert} is not told because of {for_the_sake_of}",
        )

    def release_next(self) -> None:
        """Release a version that learned from what happened since."""
        model = self._model("2", learned_until=datetime.now(UTC))
        shutil.copytree(self.folder / "model 1" / "feature_repo", model / "feature_repo", dirs_exist_ok=True)
        self.place.release(model)

    @contextlib.contextmanager
    def watching(self, team: str) -> Iterator[None]:
        """Prometheus, with what `lifecycle alerts` writes for it, and Alertmanager."""
        scraped: dict[str, Any] = prometheus_configuration("rules.yaml", seconds=1, port=self.own_port)
        told = {"static_configs": [{"targets": [f"127.0.0.1:{self.alertmanager_port}"]}]}
        scraped["alerting"]["alertmanagers"] = [told]
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(scraped))
        (self.folder / "rules.yaml").write_text(yaml.safe_dump(alert_rules(THRESHOLDS, PACE)))
        command = [PROMETHEUS, "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{self.prometheus_port}"]
        command += ["--storage.tsdb.path=series", "--rules.alert.resend-delay=1s"]
        with (
            alertmanager(self.folder, self.alertmanager_port, team),
            program(command, self.folder / "prometheus.log", lambda: answers_ok(self.prometheus_port, "/-/ready")),
        ):
            yield


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A release that is asked by key and with features, and watched as its documentation says."""
    folder = tmp_path_factory.mktemp("watched")
    with contextlib.ExitStack() as ending:
        place = ending.enter_context(serving_place(folder))
        found = Watched(folder, place)
        ending.enter_context(found.released())
        ending.enter_context(serving(found.dashboard, found.own_port))
        ending.enter_context(found.watching(ending.enter_context(found.team.listening())))
        ending.enter_context(found.asking.under_way())
        until(found.prometheus.watches, "Prometheus reads something")
        yield found
