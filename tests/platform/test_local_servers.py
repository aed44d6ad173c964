"""Releases on this machine: a real server for each version, a real Envoy in front, a real process manager."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from local_release import INPUTS, REQUEST, Load, Place, make_model
from served_place import processes, server_process, serving_place

from kfp_lifecycle.artifacts.serving import ServingTrial
from kfp_lifecycle.components.deployment.rollback_model.reversal import roll_back
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import Client, scores_in, v2_request
from kfp_lifecycle.serving.release.local.history import read_history
from kfp_lifecycle.serving.release.local.operations import endpoints, rollback, start, stop
from kfp_lifecycle.serving.release.local.supervisor import Supervisor, quoted

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not interpreter("modelling").exists() or not interpreter("serving").exists(),
        reason="the environments modelling and serving are not built",
    ),
]


BROKEN = {
    "failing": "if feed['temperature'].any(): raise RuntimeError('broken')",
    "slow": "import time; time.sleep(0.25)",
    "slower": "import time; time.sleep(0.1)",
    "shifted": "return np.asarray(self.session.run([OUTPUT], feed)[0])[:, 1] + np.float32(0.15)",
    "choosy": "from kfp_lifecycle.serving.server.errors import InvalidRequest\n        "
    "if (feed['temperature'] > 100).any(): raise InvalidRequest('too hot')",
    "sometimes failing": "type(self).asked = getattr(type(self), 'asked', 0) + 1; 1 / (type(self).asked % 50)",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three good models, and some that are broken in ways that only requests show."""
    folder = tmp_path_factory.mktemp("models")
    made = {version: make_model(folder / f"v{version}", version, 1 + int(version) / 10) for version in "123"}
    for version, (name, line) in enumerate(BROKEN.items(), start=4):
        made[name] = shutil.copytree(made["1"], folder / name)
        description = made[name] / "model.json"
        description.write_text(description.read_text().replace('"version": "1"', f'"version": "{version}"'))
        code = made[name] / "code" / "kfp_lifecycle" / "modelling" / "scoring.py"
        [signature] = [text for text in code.read_text().splitlines() if text.strip().startswith("def run(self, feed")]
        code.write_text(code.read_text().replace(f"{signature}\n", f"{signature}\n        {line}\n"))
    # What it serves is what was registered, so that only the champion shows that it is shifted.
    trial = ServingTrial.read(made["shifted"])
    shifted = [example.model_copy(update={"score": example.score + 0.15}) for example in trial.examples]
    trial.model_copy(update={"examples": shifted}).write(made["shifted"])
    return made


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A serving folder where nothing is released."""
    with serving_place(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> Iterator[Place]:
    """A serving folder where version 1 is the champion, and is left so by every test."""
    with serving_place(tmp_path_factory.mktemp("served")) as found:
        found.release(models["1"])
        yield found


def test_releases_under_load_lose_no_request_and_keep_the_address(place: Place, models: dict[str, Path]) -> None:
    first = place.release(models["1"])
    assert first["previous_version"] is None
    with Load(place.port) as load:
        second = place.release(models["2"], strategy="canary", steps=[20, 100])
        third = place.release(models["3"], strategy="blue_green")
        roll_back(place.settings(), place.locations(), place.folder / "rollback.json")
    returned = json.loads((place.folder / "rollback.json").read_text())
    assert {status for status, _ in load.answers} == {200}
    assert {version for _, version in load.answers} == {"1", "2", "3"}
    assert [step["percent"] for step in second["steps"]] == [20, 100]
    assert (third["version"], third["previous_version"]) == ("3", "2")
    assert first["url"] == third["url"] == returned["url"]
    assert (returned["version"], returned["previous_version"]) == ("2", "3")
    assert place.ask().headers["x-model-version"] == "2"
    # Champion and previous are kept; the first is stopped and gone.
    kept = {folder.name for folder in (place.serving / "devices" / "versions").iterdir()}
    assert kept == {"2", "3"}
    assert set(Supervisor(place.serving).states()) == {"envoy-devices-1", "envoy-devices-2", "devices-2", "devices-3"}
    # Every answer is in the log, and what the releases asked themselves is marked.
    stop(place.serving)
    lines = place.logged()
    assert len([line for line in lines if not line["shadow"]]) == sum(load.answers.values()) + 1
    assert any(line["shadow"] for line in lines)


@pytest.mark.parametrize(
    ("model", "reason", "settings"),
    [
        ("failing", "more server errors than the champion", {}),
        ("slow", "99th percentile", {"max_latency_p99_ms": 200.0}),
        ("slower", "worse latency than the champion", {}),
        ("shifted", "scores are .* from the champion", {"requests_per_step": 60}),
        ("sometimes failing", "more server errors than the champion", {"requests_per_step": 200}),
    ],
)
def test_a_breach_returns_all_traffic_to_the_champion_before_half_of_it_was_given(
    served: Place, models: dict[str, Path], model: str, reason: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(ContractViolation, match=f"(?s)with 10% of the traffic.*{reason}.*with the champion, version 1"):
        served.release(models[model], **settings)
    assert {served.ask().headers["x-model-version"] for _ in range(20)} == {"1"}
    assert set(Supervisor(served.serving).states()) == {"envoy-devices-1", "envoy-devices-2", "devices-1"}
    assert not (served.folder / f"{model}.json").exists()
    assert endpoints(served.serving)[0].version == "1"
    event = read_history(served.serving)[-1]
    assert (event.outcome, [stage["percent"] for stage in event.evidence]) == ("rolled back", [10])
    assert event.why.startswith("The release of devices version")


def test_a_candidate_that_refuses_what_people_ask_is_caught_where_nobody_asks_now(
    served: Place, models: dict[str, Path]
) -> None:
    # Hotter than any example that a release invents.
    hot = v2_request(INPUTS, [{"temperature": 300.0, "site": "north"}])
    assert {served.ask(hot if number % 4 else REQUEST).status for number in range(40)} == {200}
    served.logged()
    with pytest.raises(ContractViolation, match=r"(?s)with 10% of the traffic, more refused requests"):
        served.release(models["choosy"], requests_per_step=40)
    [stage] = read_history(served.serving)[-1].evidence
    assert (stage["real_requests"], stage["replayed_requests"] > 10) == (0, True)


def test_a_shadow_sees_a_copy_of_the_traffic_and_answers_nobody(place: Place, models: dict[str, Path]) -> None:
    place.release(models["1"])
    with Load(place.port) as load, pytest.raises(ContractViolation, match="a copy of the traffic"):
        place.release(models["failing"], strategy="shadow")
    assert set(load.answers) == {(200, "1")}
    with Load(place.port) as load:
        place.release(models["2"], strategy="shadow")
    assert {status for status, _ in load.answers} == {200}
    stop(place.serving)
    copies = [line for line in place.logged() if line["version"] == "2" and line["shadow"]]
    # 10 requests to warm up and 20 at each of two stages are the release's own; the rest was mirrored.
    assert len(copies) > 50


def test_what_is_killed_comes_back_and_down_leaves_no_process(place: Place, models: dict[str, Path]) -> None:
    place.release(models["1"])
    server_process(place, "1").kill()
    deadline = time.monotonic() + 30
    while place.ask().status != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert place.ask().status == 200
    # The process manager itself is killed: what it left behind is found and ended.
    next(p for p in processes(place) if "supervisor.supervisord" in p.cmdline()).kill()
    assert [endpoint.version for endpoint in start(place.serving)] == ["1"]
    assert place.ask().status == 200
    assert stop(place.serving)
    assert processes(place) == []
    assert not stop(place.serving)
    assert [endpoint.healthy for endpoint in endpoints(place.serving)] == [False]
    assert [endpoint.healthy for endpoint in start(place.serving)] == [True]
    # Releasing what serves already changes nothing.
    before = server_process(place, "1").pid
    assert place.release(models["1"])["steps"] == []
    assert server_process(place, "1").pid == before


def test_the_servers_do_without_the_temporary_folder_of_the_step_that_started_them(
    place: Place, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_the_step = tmp_path / "scratch"
    of_the_step.mkdir()
    monkeypatch.setenv("TMPDIR", str(of_the_step))
    place.release(models["1"])
    own = Path(server_process(place, "1").environ()["TMPDIR"])
    assert own != of_the_step
    assert own.is_dir()


def test_a_taken_port_is_named_with_the_way_out(place: Place, models: dict[str, Path]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", place.port + 1))
        other.listen()
        with pytest.raises(ContractViolation, match=rf"port {place.port + 1}.*--set deployment.http_port="):
            place.release(models["1"])
    assert processes(place) == []
    assert endpoints(place.serving) == []


def test_a_server_that_cannot_start_ends_the_release_with_its_last_words(
    served: Place, models: dict[str, Path], tmp_path: Path
) -> None:
    broken = shutil.copytree(models["2"], tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ContractViolation, match=r"(?s)version 2 does not start.*model.onnx cannot be loaded"):
        served.release(broken)
    assert served.ask().headers["x-model-version"] == "1"


def test_an_interrupted_release_leaves_the_champion_with_all_traffic(served: Place, models: dict[str, Path]) -> None:
    deployment = {"steps": [50, 100], "requests_per_step": 100_000}
    code = (
        "from pathlib import Path; from local_release import Place; "
        f"Place(Path({str(served.folder)!r}), {served.port}).release(Path({str(models['2'])!r}), **{deployment!r})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["src", str(Path(__file__).parent)])}
    release = subprocess.Popen([str(interpreter("platform")), "-c", code], env=environment)
    deadline = time.monotonic() + 60
    while "2" not in {served.ask().headers.get("x-model-version") for _ in range(5)} and time.monotonic() < deadline:
        time.sleep(0.1)
    release.send_signal(signal.SIGTERM)
    assert release.wait(30) == 128 + signal.SIGTERM
    assert {served.ask().headers["x-model-version"] for _ in range(20)} == {"1"}
    assert not (served.folder / f"{models['2'].name}.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may raise a priority")
def test_servers_run_at_the_usual_priority_whatever_releases_them(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from kfp_lifecycle.serving.release.local.supervisor import Program, Supervisor; "
        f"Supervisor(Path({str(tmp_path)!r})).apply([Program('sleeper', ['sleep', '60.{os.getpid()}'], '.')])"
    )
    environment = {**os.environ, "PYTHONPATH": "src"}
    subprocess.run(["nice", "-n", "10", str(interpreter("platform")), "-c", code], env=environment, check=True)
    supervisor = Supervisor(tmp_path)
    try:
        identifier = int((tmp_path / "supervisor" / "supervisord.pid").read_text())
        parent = psutil.Process(identifier)
        [child] = [child for child in parent.children() if not any("log_rotation" in part for part in child.cmdline())]
        # It becomes the program once it has looked whether that runs already.
        deadline = time.monotonic() + 10
        while child.name() != "sleep" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert child.name() == "sleep"
        assert (parent.nice(), child.nice()) == (0, 0)
    finally:
        supervisor.stop()


def test_a_rollback_without_an_earlier_version_says_so(served: Place, models: dict[str, Path]) -> None:
    with pytest.raises(ContractViolation, match="no version before 1"):
        rollback(served.serving, "devices")
    with pytest.raises(ContractViolation, match="gadgets is not released"):
        rollback(served.serving, "gadgets")


def test_only_this_machine_reaches_the_servers_and_nobody_unloads_a_model(
    served: Place, models: dict[str, Path]
) -> None:
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in processes(served)
        for connection in process.connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    assert served.ask(headers={"x-model-version": "1"}).status == 200
    secret = served.serving / "supervisor" / "supervisord.conf"
    assert secret.stat().st_mode & 0o077 == 0
    with Client(served.port) as client:
        for path in ("/v2/repository/models/devices/unload", "/v2/%72epository/models/devices/unload"):
            assert client.post(path, {}).status == 403
        assert client.post("/v2/repository/index", {}).json()[0]["name"] == "devices"
    assert served.ask().status == 200


def test_the_score_through_the_endpoint_is_the_formula(served: Place, models: dict[str, Path]) -> None:
    rows = [{"temperature": 30.0, "site": "north"}, {"temperature": None, "site": "south"}]
    # sigmoid(1.1 * (0.04 * 30 - 1)) and, a missing temperature counting as 20, sigmoid(1.1 * (0.8 - 2))
    assert scores_in(served.ask(v2_request(INPUTS, rows))) == pytest.approx([0.554779, 0.210818], abs=1e-5)
    assert scores_in(served.ask(REQUEST)) == pytest.approx([0.554779], abs=1e-5)


@pytest.mark.parametrize("argument", ["plain", "a b", "50%", "a ;b", "a #b", "it's", 'say "x"', "$HOME", "\\"])
def test_an_argument_reaches_a_program_as_it_is(argument: str) -> None:
    import shlex

    from supervisor.options import UnhosedConfigParser

    parser = UnhosedConfigParser()
    parser.read_string(f"[program:x]\ncommand = run {quoted(argument)}\n")
    assert shlex.split(parser.saneget("program:x", "command")) == ["run", argument]
