"""Releases on this machine survive: their controller, a server, the front's process manager killed with -9."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from local_release import ROOT, SETTINGS, Load, Place, make_model
from served_place import killed_release, processes, server_process, serving_place

from kfp_lifecycle.components.deployment.release_model.targets import resume_locally
from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.local.events import append_event, event
from kfp_lifecycle.local.run_records import EVENTS_FILE, RECORD_FILE
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.states import State
from kfp_lifecycle.serving.release.local import adoption
from kfp_lifecycle.serving.release.local.adoption import living
from kfp_lifecycle.serving.release.local.history import read_history
from kfp_lifecycle.serving.release.local.log_rotation import rotate
from kfp_lifecycle.serving.release.local.operations import Endpoint, endpoints, release_of, rollback, start, stop
from kfp_lifecycle.serving.release.local.servers import envoy_of
from kfp_lifecycle.serving.release.local.supervisor import Program, Supervisor

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not interpreter("modelling").exists() or not interpreter("serving").exists(),
        reason="the environments modelling and serving are not built",
    ),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {version: make_model(folder / f"v{version}", version, 1 + int(version) / 10) for version in "123"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> Iterator[Place]:
    """Version 2 is the champion; every test leaves it so."""
    with serving_place(tmp_path_factory.mktemp("served")) as found:
        found.release(models["1"])
        found.release(models["2"])
        yield found


def answering(place: Place, requests: int = 30) -> set[str]:
    return {place.ask().headers.get("x-model-version", "") for _ in range(requests)}


def endpoint(place: Place) -> Endpoint:
    [found] = endpoints(place.serving)
    return found


def test_a_controller_that_was_killed_is_told_and_rollback_leads_to_the_champion(
    served: Place, models: dict[str, Path]
) -> None:
    killed_release(served, models["3"], "sharing")
    assert answering(served) == {"2", "3"}
    found = endpoint(served)
    assert (found.version, found.shares) == ("2", {"2": 50, "3": 50})
    [remark] = found.remarks
    assert "release of version 3 by" in remark
    assert "50% by version 2, 50% by version 3; its controller, process" in remark
    assert rollback(served.serving, "devices").version == "2"
    assert answering(served) == {"2"}
    assert (endpoint(served).remarks, endpoint(served).shares) == ((), {"2": 100})
    outcomes = [(event.version, event.outcome) for event in read_history(served.serving)][-3:]
    assert outcomes == [("3", "begun"), ("3", "abandoned"), ("2", "returned")]


@pytest.mark.parametrize("point", ["starting", "sharing, before the routes"])
def test_serve_takes_back_what_was_cut_off(served: Place, models: dict[str, Path], point: str) -> None:
    killed_release(served, models["3"], point)
    assert "is gone" in " ".join(endpoint(served).remarks)
    assert [(found.version, found.remarks) for found in start(served.serving)] == [("2", ())]
    assert answering(served) == {"2"}


def test_a_resumed_release_goes_on_where_it_was_and_a_rollback_returns_from_it(
    served: Place, models: dict[str, Path]
) -> None:
    killed_release(served, models["3"], "sharing")
    record = resume_locally(served.serving, "devices")
    assert (record.version, record.previous_version) == ("3", "2")
    assert [step.percent for step in record.steps] == [50, 100]
    with pytest.raises(ContractViolation, match="no release of devices is unfinished"):
        resume_locally(served.serving, "devices")
    assert answering(served) == {"3"}
    assert rollback(served.serving, "devices").version == "2"
    # The two changed places: what was left is not who takes over, and the next release begins from the champion.
    killed_release(served, models["1"], "sharing")
    assert served.release(models["3"])["previous_version"] == "2"
    assert rollback(served.serving, "devices", to="2").version == "2"


def test_a_release_that_was_killed_once_it_was_recorded_is_complete(served: Place, models: dict[str, Path]) -> None:
    killed_release(served, models["1"], "promoted")
    assert (endpoint(served).version, endpoint(served).remarks) == ("1", ())
    assert answering(served) == {"1"}
    served.release(models["2"])
    kept = {folder.name for folder in (served.serving / "devices" / "versions").iterdir()}
    assert kept == {"1", "2"}


def test_where_a_server_is_killed_the_version_before_takes_over_until_it_is_back(served: Place) -> None:
    with Load(served.port, clients=4) as load:
        time.sleep(0.3)
        server_process(served, "2").kill()
        time.sleep(0.3)
        assert any("version 1 answers for it meanwhile" in remark for remark in endpoint(served).remarks)
        deadline = time.monotonic() + 60
        while endpoint(served).remarks and time.monotonic() < deadline:
            time.sleep(0.2)
    assert answering(served) == {"2"}
    # At most the requests that the killed process was answering are lost.
    failed = sum(count for (status, _), count in load.answers.items() if status != 200)
    assert failed <= 4
    assert load.answers[200, "1"] > 0


def test_a_candidate_that_crashes_with_half_of_the_traffic_costs_nobody_an_answer(
    served: Place, models: dict[str, Path]
) -> None:
    def crash() -> None:
        while "3" not in answering(served, 5):
            time.sleep(0.05)
        server_process(served, "3").kill()

    crasher = threading.Thread(target=crash)
    with Load(served.port, clients=4) as load:
        crasher.start()
        with pytest.raises(ContractViolation, match=r"(?s)with 50% of the traffic, more server errors.*version 2"):
            served.release(models["3"], steps=[50, 100], requests_per_step=500)
    crasher.join()
    failed = sum(count for (status, _), count in load.answers.items() if status != 200)
    assert failed <= 4
    assert load.answers[200, "3"] > 0
    assert answering(served) == {"2"}


def test_where_one_process_of_the_front_is_killed_the_other_answers_until_it_is_back(served: Place) -> None:
    envoy = envoy_of(served.serving.resolve(), release_of(served.serving, "devices"))
    front = next(p for p in processes(served) if any("bootstrap-1.json" in part for part in p.cmdline()))
    with Load(served.port, clients=4) as load:
        time.sleep(0.3)
        front.kill()
        psutil.wait_procs([front], timeout=60)
        # New connections meet the one that lives.
        assert {served.ask().status for _ in range(20)} == {200}
        deadline = time.monotonic() + 60
        while not envoy.is_whole() and time.monotonic() < deadline:
            time.sleep(0.1)
    assert envoy.is_whole()
    failed = sum(count for (status, _), count in load.answers.items() if status != 200)
    assert failed <= 4


def test_a_server_that_is_told_to_end_answers_first_and_another_one_after_it(served: Place) -> None:
    with Load(served.port, clients=4) as load:
        time.sleep(0.3)
        server_process(served, "2").terminate()
        deadline = time.monotonic() + 60
        while "1" not in {version for _, version in load.answers} and time.monotonic() < deadline:
            time.sleep(0.05)
        while endpoint(served).remarks and time.monotonic() < deadline:
            time.sleep(0.2)
    assert {status for status, _ in load.answers} == {200}
    assert {version for _, version in load.answers} == {"1", "2"}


def test_what_a_program_says_is_kept_though_its_process_manager_was_killed(tmp_path: Path) -> None:
    command = ["sh", "-c", f"while :; do echo {os.getpid()} speaks; sleep 0.1; done"]
    program = Program("speaker", command, ".")
    supervisor, log = Supervisor(tmp_path), tmp_path / "supervisor" / "logs" / "speaker.log"

    def grows() -> bool:
        size, deadline = log.stat().st_size if log.exists() else 0, time.monotonic() + 60
        while time.monotonic() < deadline:
            if log.exists() and log.stat().st_size > size:
                return True
            time.sleep(0.05)
        return False

    try:
        supervisor.apply([program])
        assert grows()
        speaker = living(command)
        assert speaker is not None
        psutil.Process(int((tmp_path / "supervisor" / "supervisord.pid").read_text())).kill()
        assert grows()
        supervisor.apply([program])
        assert grows()
        assert speaker.is_running()
        # What has grown too large is begun anew under its writer's hand.
        rotate(log.parent, most_bytes=10)
        assert log.with_suffix(".log.1").stat().st_size > 10
        assert grows()
        assert "\0" not in log.read_text()
    finally:
        supervisor.stop()
        for process in [living(command)]:
            if process is not None:
                process.kill()


def test_a_program_s_secrets_are_told_to_it_alone_and_outlast_whoever_told_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "anna:a % \"key\" of 'hers'; #1\nben:${OTHER}\n"
    command = ["sh", "-c", f'printf "%s|" "$PEOPLE" >> told; exec sleep 60.{os.getpid()}']
    program = Program("keeper", command, ".", ("PEOPLE", "UNSET"))
    supervisor, told = Supervisor(tmp_path), tmp_path / "told"

    def wait_for(times: int) -> None:
        deadline = time.monotonic() + 60
        while (not told.exists() or told.read_text().count("|") < times) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert told.read_text() == f"{secret}|" * times

    try:
        monkeypatch.setenv("PEOPLE", secret)
        supervisor.apply([program])
        wait_for(1)
        assert supervisor.configuration.stat().st_mode & 0o077 == 0
        assert not any(secret in " ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))
        # Another value, or none, is no reason to start anew what runs.
        monkeypatch.setenv("PEOPLE", "carl:another")
        supervisor.apply([program, Program("other", ["sleep", f"61.{os.getpid()}"], ".")])
        # Nor is another copy of this library, as each of its versions has one.
        runs = living(["sleep", f"60.{os.getpid()}"])
        assert runs is not None
        copy = Path(shutil.copy(adoption.__file__, tmp_path / "adoption.py"))
        monkeypatch.setattr(
            "kfp_lifecycle.serving.release.local.supervisor.ADOPTION", (sys.executable, "-I", str(copy))
        )
        supervisor.apply([program])
        assert runs.is_running()
        assert supervisor.stop()
        monkeypatch.delenv("PEOPLE")
        supervisor.apply([program])
        wait_for(2)
    finally:
        supervisor.stop()


def test_servers_outlive_their_process_manager_and_the_next_one_looks_after_them(served: Place) -> None:
    before = {server_process(served, version).pid for version in "12"}
    with Load(served.port) as load:
        next(p for p in processes(served) if "supervisor.supervisord" in p.cmdline()).kill()
        time.sleep(0.3)
        assert any("process manager is gone" in remark for remark in endpoint(served).remarks)
        assert [(found.version, found.remarks) for found in start(served.serving)] == [("2", ())]
        time.sleep(0.3)
    assert {status for status, _ in load.answers} == {200}
    alive = {p.pid for p in processes(served) if "--model_dir" in p.cmdline() and "-I" not in p.cmdline()}
    assert alive == before


def test_a_version_that_is_down_is_left_at_once_and_what_was_left_does_not_take_over(
    served: Place, models: dict[str, Path]
) -> None:
    served.release(models["3"])
    broken = served.serving / "devices" / "versions" / "3" / "model.onnx"
    broken.write_bytes(b"no model")
    server_process(served, "3").kill()
    assert rollback(served.serving, "devices", why="3 is down").version == "2"
    assert answering(served) == {"2"}
    assert read_history(served.serving, "devices")[-1].why == "3 is down"
    server_process(served, "2").kill()
    time.sleep(0.1)
    assert "3" not in answering(served, 5)


def test_the_registry_s_alias_follows_a_rollback_and_what_failed_of_it_is_told_and_done_again(
    place: Place, models: dict[str, Path]
) -> None:
    place.release(models["1"])
    place.release(models["2"])
    moved: list[tuple[str, str]] = []

    def refuse(left: str, back: str) -> None:
        raise ContractViolation("the registry cannot be reached")

    with pytest.raises(ContractViolation, match="registry cannot be reached"):
        rollback(place.serving, "devices", move_alias=refuse)
    assert answering(place) == {"1"}
    [remark] = endpoint(place).remarks
    assert "alias may name version 2 still: `lifecycle rollback devices --to 1`" in remark
    assert rollback(place.serving, "devices", to="1", move_alias=lambda *pair: moved.append(pair)).remarks == ()
    assert moved == [("2", "1")]
    with pytest.raises(ContractViolation, match="version 9 is not kept here"):
        rollback(place.serving, "devices", to="9")
    assert stop(place.serving)
    assert processes(place) == []


REGISTRY = """
import sys
from kfp_lifecycle.registry.tracking import connect
from kfp_lifecycle.registry.versions import champion_version
uri, action = sys.argv[1:]
client = connect(uri)
if action == "make":
    client.create_registered_model("devices")
    for _ in range(3):
        client.create_model_version("devices", source="file:///nowhere")
    client.set_registered_model_alias("devices", "champion", "2")
print(champion_version(uri, "devices"))
"""


def registry(state: Path, action: str) -> str:
    """The champion that the registry of a state folder names."""
    command = [str(interpreter("modelling")), "-c", REGISTRY, f"sqlite:///{state / 'mlflow.db'}", action]
    environment = {"PYTHONPATH": "src", "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


# Eight processes, each of which imports a great deal: on a busy machine it takes minutes.
@pytest.mark.timeout(900)
def test_the_commands_take_a_cut_off_candidate_and_return_from_it_with_the_registry(
    place: Place, models: dict[str, Path], tmp_path: Path
) -> None:
    place.release(models["1"])
    place.release(models["2"])
    # MLflow's migrations cannot stand in a folder with a percent sign in its path; what is served can.
    state = tmp_path / "state"
    state.mkdir()
    (state / "serving").symlink_to(place.serving)
    (state / "environments").symlink_to(interpreter("modelling").parents[2])
    environment = {**os.environ, "PYTHONPATH": "src", "LIFECYCLE_STATE": str(state)}

    def lifecycle(*command: str, code: int = 0) -> str:
        program = [str(interpreter("platform")), "-m", "kfp_lifecycle.cli", *command]
        done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    assert registry(state, "make") == "2"
    assert "version 1 has all traffic" in lifecycle("rollback", "devices", "--to", "1", "--why", "complaints")
    assert answering(place) == {"1"}
    # What leads nowhere moves nothing: the promotion below is from version 1.
    assert "version 9 is not kept here" in lifecycle("rollback", "devices", "--to", "9", code=1)
    killed_release(place, models["3"], "sharing")
    assert "its controller, process" in lifecycle("status")
    assert "version 3 has all traffic" in lifecycle("promote")
    assert (registry(state, "ask"), answering(place)) == ("3", {"3"})
    assert "no release of devices is unfinished" in lifecycle("release", "--resume", code=1)
    # Kept is the version before; an older one is released again, out of the run that has tried it.
    project = tried_in_a_run(tmp_path / "project", state, models["2"], place)
    with Load(place.port) as load:
        said = lifecycle("release", "2", "--strategy", "blue_green", "--project", str(project))
        assert "version 2 has all traffic" in said
    assert {status for status, _ in load.answers} == {200}
    assert (registry(state, "ask"), answering(place)) == ("2", {"2"})
    told = lifecycle("releases")
    assert "a person took it, without further judgement" in told
    assert "complaints" in told
    assert "promoted (blue_green)" in told


def tried_in_a_run(project: Path, state: Path, servable: Path, place: Place) -> Path:
    """A project of the model, and a run of it that has tried a version; returns its folder."""
    project.mkdir()
    settings = yaml.safe_load((ROOT / "pipeline.yaml").read_text("utf-8"))
    settings["deployment"] = {**settings["deployment"], **SETTINGS["deployment"], "http_port": place.port}
    (project / "pipeline.yaml").write_text(yaml.safe_dump(settings))
    folder = state / "runs" / "tried"
    folder.mkdir(parents=True)
    record = {"id": "tried", "pipeline": "training", "project": "devices", "project_folder": str(project)}
    (folder / RECORD_FILE).write_text(json.dumps({**record, "overrides": [], "state": "done", "number": 1}))
    artifacts = {"servable_model": {"path": str(servable), "metadata": {}}}
    append_event(folder / EVENTS_FILE, event("validate-serving", State.done, artifacts=artifacts))
    return project


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A serving folder where nothing is released."""
    with serving_place(tmp_path) as found:
        yield found
