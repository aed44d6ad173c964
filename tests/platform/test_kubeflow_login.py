"""Who asks a Kubeflow, and what becomes of a run that is watched when a token or a session runs out."""

from __future__ import annotations

import json
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from small_pipeline import allow, submission

from kfp_lifecycle.backends.backend import BackendError, RunStatus
from kfp_lifecycle.backends.kubeflow.backend import KubeflowBackend
from kfp_lifecycle.backends.kubeflow.credentials import (
    PASSWORD_VARIABLE,
    TOKEN_FILE_VARIABLE,
    TOKEN_VARIABLE,
    USER_VARIABLE,
)
from kfp_lifecycle.backends.watching import watch
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.runtime.closure import ROOT
from kfp_lifecycle.runtime.states import RunState
from tests.control_planes.kubeflow import KubeflowStandIn, Settings, User
from tests.control_planes.kubeflow.login import Gate, login_before

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
ADA = User("ada@example.com", frozenset({"team"}))


@pytest.fixture
def users() -> dict[str, User]:
    """Whom the Kubeflow knows, by token; one that is taken out has run out."""
    return {"first": ADA}


@pytest.fixture
def server(tmp_path: Path, users: dict[str, User]) -> Iterator[KubeflowStandIn]:
    with KubeflowStandIn(tmp_path / "kubeflow", settings=Settings(users=users)) as running:
        yield running


def backend_at(endpoint: str, namespace: str = "team") -> KubeflowBackend:
    said = [f"targets.kubeflow.endpoint='{endpoint}'", f"targets.kubeflow.namespace='{namespace}'"]
    target = load_configuration(ROOT, said).targets.kubeflow
    assert target is not None
    return KubeflowBackend(target, "shop")


def watched_through(change: Callable[[], None], backend: KubeflowBackend, compiled: Path, reference: Path) -> RunStatus:
    """A run at its end, watched while something changes."""
    allow(reference, "wait")
    run = backend.submit(submission(compiled, reference))
    threading.Timer(1.0, change).start()
    threading.Timer(2.0, allow, (reference, "10")).start()
    return watch(backend, run, lambda now: None, lambda line: None, pause=0.1)


@pytest.mark.parametrize("variable", [TOKEN_FILE_VARIABLE, "KF_PIPELINES_SA_TOKEN_PATH"])
def test_a_token_in_a_file_is_renewed_under_a_run_that_is_watched(
    server: KubeflowStandIn,
    users: dict[str, User],
    compiled: Path,
    reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    monkeypatch.setenv(variable, str(token))

    def renew() -> None:
        # As the kubelet does: the file is another one from one moment to the next, and the old token has run out.
        (tmp_path / "renewed").write_text("second")
        users["second"] = ADA
        (tmp_path / "renewed").replace(token)
        del users["first"]

    status = watched_through(renew, backend_at(server.url), compiled, reference)
    assert status.summary.state is RunState.done


def test_a_token_that_runs_out_and_is_not_renewed_ends_the_watching_with_what_to_do(
    server: KubeflowStandIn,
    users: dict[str, User],
    compiled: Path,
    reference: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "first")

    def run_out() -> None:
        users["another"] = users.pop("first")

    with pytest.raises(BackendError, match=rf"who asks to read the run \(401\): log in, .*{TOKEN_FILE_VARIABLE}"):
        watched_through(run_out, backend_at(server.url), compiled, reference)


def test_a_file_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_FILE_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(BackendError, match=r"none, and there is no such file: write the token there"):
        backend_at("http://127.0.0.1:9").runs(1)


class TestDex:
    @pytest.fixture
    def gate(self, tmp_path: Path) -> Iterator[Gate]:
        with (
            KubeflowStandIn(tmp_path / "kubeflow") as server,
            login_before(server.url, {"ada@example.com": "secret"}) as gate,
        ):
            yield gate

    def test_a_session_that_runs_out_is_begun_anew_under_a_run_that_is_watched(
        self, gate: Gate, compiled: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(USER_VARIABLE, "ada@example.com")
        monkeypatch.setenv(PASSWORD_VARIABLE, "secret")
        status = watched_through(gate.end_sessions, backend_at(gate.url, ""), compiled, reference)
        assert status.summary.state is RunState.done
        assert gate.logins == 2

    def test_a_wrong_password_is_told_without_repeating_it(self, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(USER_VARIABLE, "ada@example.com")
        monkeypatch.setenv(PASSWORD_VARIABLE, "guessed")
        with pytest.raises(BackendError, match=r"Dex does not let ada@example\.com in") as refused:
            backend_at(gate.url, "").runs(1)
        assert "guessed" not in str(refused.value)

    def test_a_page_to_log_in_at_is_no_answer_of_the_api(self, gate: Gate) -> None:
        with pytest.raises(BackendError, match=rf"\(302\): log in, .*{USER_VARIABLE}"):
            backend_at(gate.url, "").runs(1)


def test_a_kubeconfig_s_own_command_gives_a_token_and_again_when_it_has_run_out(
    server: KubeflowStandIn,
    users: dict[str, User],
    compiled: Path,
    reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token, helper, kubeconfig = tmp_path / "token", tmp_path / "helper", tmp_path / "kubeconfig"
    token.write_text("first")
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {}}
    helper.write_text(
        f"#!{sys.executable}\nimport json\ncredential = {json.dumps(credential)}\n"
        f"credential['status']['token'] = open({str(token)!r}).read()\nprint(json.dumps(credential))\n"
    )
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    command = {"apiVersion": credential["apiVersion"], "command": str(helper), "interactiveMode": "Never"}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "ada"}}],
        "clusters": [{"name": "here", "cluster": {"server": server.url}}],
        "users": [{"name": "ada", "user": {"exec": command}}],
    }
    kubeconfig.write_text(yaml.safe_dump(content))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    def renew() -> None:
        token.write_text("second")
        users["second"] = users.pop("first")

    status = watched_through(renew, backend_at(""), compiled, reference)
    assert status.summary.state is RunState.done
