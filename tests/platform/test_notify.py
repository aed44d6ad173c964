"""The exit handler tells how a run ended, and keeps a secret."""

import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from guarded_step import work
from kfp import compiler, dsl
from kfp.dsl import PipelineTaskFinalStatus

from kfp_lifecycle.components.operations.notify.component import notify
from kfp_lifecycle.components.operations.notify.delivery import ATTEMPTS, deliver
from kfp_lifecycle.components.operations.notify.failed_pods import FailedPod, failed_pods
from kfp_lifecycle.components.operations.notify.message import LONGEST_REASON, describe_end
from kfp_lifecycle.local.kfp_runner import Session, StepOutputs, run_pipeline
from kfp_lifecycle.runtime.state_folder import state_folder

SECRET = "T024-B911-x9s8d7f6"


@dataclass
class Webhook:
    """A receiver that answers as told, one answer for each request, the last for all that follow."""

    answers: list[int]
    seconds: float = 0.0
    port: int = 0
    received: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/{SECRET}"


@contextmanager
def receiving(*answers: int, seconds: float = 0.0) -> Iterator[Webhook]:
    webhook = Webhook(list(answers), seconds)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = webhook.answers[min(len(webhook.received), len(webhook.answers) - 1)]
            webhook.received.append({"path": self.path, "type": self.headers["Content-Type"], **content})
            time.sleep(webhook.seconds)
            self.send_response(answer)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    webhook.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield webhook
    finally:
        server.shutdown()
        server.server_close()


def status(state: str = "FAILED", task: str = "validate-data", message: str | None = "amount is negative") -> Any:
    return PipelineTaskFinalStatus(state, "projects/p/locations/l/pipelineJobs/run-7", task, 1, message)


def test_a_failed_run_is_told_with_its_step_its_reason_and_what_to_do_next() -> None:
    end = describe_end(status(), "training")
    assert end.state == "failed"
    assert end.headline == "training: failed at validate data."
    assert "amount is negative" in end.text
    assert "clone run projects/p/locations/l/pipelineJobs/run-7" in end.text


def test_a_failed_run_on_this_machine_is_told_with_the_command_that_goes_on() -> None:
    assert "lifecycle run training --resume" in describe_end(status(), "training", local_run="training-1").text


def test_a_done_run_is_told_without_a_reason() -> None:
    end = describe_end(status("SUCCEEDED", "exit-handler-1", None), "training")
    assert (end.state, end.headline, end.reason) == ("done", "training: done.", "")


@pytest.mark.parametrize("word", ["COMPLETE", "CACHED", "SKIPPED", "SUCCEEDED", "complete"])
def test_a_run_on_kubeflow_that_is_complete_or_cached_is_told_as_done(word: str) -> None:
    assert describe_end(status(word, "exit-handler-1", None), "training").headline == "training: done."


@pytest.mark.parametrize("word", ["CANCELLED", "CANCELED"])
def test_a_cancelled_run_is_told_as_stopped(word: str) -> None:
    assert describe_end(status(word), "training").headline == "training: stopped before its end."


@pytest.mark.parametrize("word", ["PAUSED", ""])
def test_a_state_of_another_platform_is_repeated_and_is_no_failure(word: str) -> None:
    end = describe_end(status(word, "exit-handler-1", None), "training")
    assert (end.state, end.headline) == ("unknown", "training: ended.")
    assert (word or "no word at all") in end.text


def test_the_exit_handlers_own_name_is_not_told_as_the_failed_step() -> None:
    end = describe_end(status(task="exit-handler-1", message=None), "training")
    assert end.headline == "training: failed."
    assert end.reason == "The platform gives no reason."


def test_steps_that_vertex_names_in_its_message_are_told() -> None:
    message = "The DAG failed because some tasks failed. The failed tasks are: [train-model, tune-model]."
    end = describe_end(status(task="exit-handler-1", message=message), "training")
    assert end.headline == "training: failed at train model, tune model."


def test_a_reason_cannot_change_the_markdown_around_it() -> None:
    end = describe_end(status(message="<img src=x onerror=alert(1)>\n# a heading"), "training")
    assert "    <img src=x onerror=alert(1)>\n    # a heading" in end.markdown


def test_a_very_long_reason_is_cut() -> None:
    end = describe_end(status(message="x" * 50_000), "training")
    assert len(end.reason) <= LONGEST_REASON + 2
    assert end.reason.endswith("…")


def test_a_message_arrives_as_json_that_slack_takes() -> None:
    with receiving(200) as webhook:
        assert deliver("training: done.", webhook.url)
    assert webhook.received == [
        {"path": f"/services/{SECRET}", "type": "application/json", "text": "training: done."},
    ]


def test_what_a_step_said_cannot_call_a_whole_channel() -> None:
    with receiving(200) as webhook:
        deliver("<!channel> & co", webhook.url)
    assert webhook.received[0]["text"] == "&lt;!channel&gt; &amp; co"


def test_a_receiver_that_is_down_for_a_moment_gets_the_message() -> None:
    with receiving(503, 429, 200) as webhook:
        assert deliver("done", webhook.url, first_wait_seconds=0.01)
    assert len(webhook.received) == 3


def test_a_receiver_that_stays_down_is_given_up_in_plain_words(capfd: pytest.CaptureFixture[str]) -> None:
    with receiving(500) as webhook:
        assert not deliver("done", webhook.url, first_wait_seconds=0.01)
    assert len(webhook.received) == ATTEMPTS
    assert capfd.readouterr().err == "The message was not delivered to the webhook: it answered 500.\n"


def test_a_receiver_that_refuses_is_not_asked_again(capfd: pytest.CaptureFixture[str]) -> None:
    with receiving(404) as webhook:
        assert not deliver("done", webhook.url)
    assert len(webhook.received) == 1
    assert "it answered 404" in capfd.readouterr().err


def test_a_slow_receiver_does_not_hold_up_the_run(capfd: pytest.CaptureFixture[str]) -> None:
    begun = time.monotonic()
    with receiving(200, seconds=1.0) as webhook:
        assert not deliver("done", webhook.url, timeout_seconds=0.05, first_wait_seconds=0.01)
    assert time.monotonic() - begun < 10
    assert "no answer within 0.05 s" in capfd.readouterr().err


def test_a_redirect_is_not_followed() -> None:
    with receiving(307) as webhook:
        assert not deliver("done", webhook.url)
    assert len(webhook.received) == 1


@pytest.mark.parametrize(
    "address",
    [f"http://127.0.0.1:1/{SECRET}", f"file:///etc/{SECRET}", f"http://[{SECRET}", f"http://a b/{SECRET}", f"{SECRET}"],
)
def test_the_address_is_never_printed_even_when_it_is_wrong(address: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert not deliver("done", address, timeout_seconds=0.2, first_wait_seconds=0.01)
    printed = capfd.readouterr()
    assert "not delivered" in printed.err
    assert SECRET not in printed.out + printed.err


@dsl.pipeline(name="guarded")
def guarded(reason: str, webhook_url: str):
    with dsl.ExitHandler(notify(pipeline="guarded", webhook_url=webhook_url).set_caching_options(False)):
        work(reason=reason)


class Watch:
    """Keeps what the exit handler wrote."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.outputs: dict[str, StepOutputs] = {}

    def started(self, step: str, log: Path) -> None:
        self.states[step] = "running"

    def cached(self, step: str, outputs: StepOutputs) -> None:
        self.states[step] = "cached"

    def done(self, step: str, outputs: StepOutputs) -> None:
        self.states[step], self.outputs[step] = "done", outputs

    def failed(self, step: str, reason: str, log: Path) -> None:
        self.states[step] = "failed"

    def interrupted(self, step: str) -> None:
        self.states[step] = "interrupted"


def run_guarded(folder: Path, reason: str, webhook_url: str = "", secret_url: str = "") -> tuple[Watch, str]:
    compiled = folder / "guarded.yaml"
    compiler.Compiler().compile(guarded, str(compiled))
    watch = Watch()
    for name in ("logs", "scratch"):
        (folder / name).mkdir()
    run_pipeline(
        compiled,
        {"reason": reason, "webhook_url": webhook_url},
        session=Session(
            watch, folder / "logs", folder / "scratch", state_folder() / "code", {"LIFECYCLE_WEBHOOK_URL": secret_url}
        ),
        artifacts=folder / "artifacts",
        cache_root=None,
        kfp_log=folder / "logs" / "kfp.log",
    )
    return watch, "".join(file.read_text("utf-8") for file in (folder / "logs").iterdir())


@pytest.mark.slow
def test_in_a_real_run_a_failing_step_is_told_and_the_secret_is_in_no_log(tmp_path: Path) -> None:
    with receiving(200) as webhook:
        watch, logs = run_guarded(tmp_path, "amount is negative; correct the source", secret_url=webhook.url)
    assert watch.states == {"work": "failed", "notify": "done"}
    assert webhook.received[0]["text"].startswith("guarded: failed at work.\namount is negative; correct the source\n")
    path, metadata = watch.outputs["notify"].artifacts["message"]
    assert Path(path).read_text("utf-8").startswith("**guarded: failed at work.**")
    assert (metadata["state"], metadata["delivered"]) == ("failed", True)
    assert SECRET not in logs


@pytest.mark.slow
def test_in_a_real_run_that_succeeds_an_unreachable_webhook_changes_nothing(tmp_path: Path) -> None:
    with receiving(404) as webhook:
        watch, logs = run_guarded(tmp_path, "", webhook.url)
    assert watch.states == {"work": "done", "notify": "done"}
    assert "not delivered to the webhook: it answered 404" in logs
    assert watch.outputs["notify"].artifacts["message"][1]["delivered"] is False


POD = {
    "metadata": {"name": "run-7-impl-1", "labels": {"pipeline/runid": "7"}},
    "spec": {
        "containers": [
            {"name": "wait"},
            {"name": "main", "command": ["launch", "--function_to_execute", "validate_data"]},
        ]
    },
    "status": {
        "containerStatuses": [
            {"name": "wait", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
            {
                "name": "main",
                "state": {"terminated": {"exitCode": 1, "reason": "Error", "message": "amount is negative"}},
            },
        ]
    },
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[dict[str, str], Path, list[Any], list[str]]]:
    """Kubernetes' API as a pod finds it: its variables, its account, the pods it tells of, and what it was asked."""
    account = tmp_path / "account"
    account.mkdir()
    key, certificate = account / "key", account / "ca.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=kubernetes"]
    subprocess.run(
        [*command, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    (account / "token").write_text("a-token\n")
    (account / "namespace").write_text("team")
    pods: list[Any] = []
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers['Authorization']}")
            content = json.dumps({"items": pods} if "?" in self.path else POD).encode()
            self.send_response(200 if pods else 403)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    variables = {
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(server.server_address[1]),
        "KFP_POD_NAME": "run-7-impl-9",
    }
    try:
        yield variables, account, pods, asked
    finally:
        server.shutdown()
        server.server_close()


def test_on_a_cluster_the_failed_step_and_its_reason_are_found_in_its_pod(
    cluster: tuple[dict[str, str], Path, list[Any], list[str]],
) -> None:
    variables, account, pods, asked = cluster
    done = json.loads(json.dumps(POD))
    done["status"]["containerStatuses"][1]["state"] = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    running = {**POD, "status": {}}
    driver = {**POD, "spec": {"containers": [{"name": "main", "command": ["driver"]}]}}
    pods += [done, running, driver, POD]
    found = failed_pods(variables, account)
    assert found == [FailedPod("validate_data", "amount is negative")]
    assert asked == [
        "/api/v1/namespaces/team/pods/run-7-impl-9 Bearer a-token",
        "/api/v1/namespaces/team/pods?labelSelector=pipeline%2Frunid%3D7 Bearer a-token",
    ]
    end = describe_end(status(task="exit-handler-1", message=None), "training", failed_pods=found)
    assert end.headline == "training: failed at validate data."
    assert end.reason == "amount is negative"


def test_a_step_that_was_killed_has_the_systems_reason(
    cluster: tuple[dict[str, str], Path, list[Any], list[str]],
) -> None:
    variables, account, pods, _ = cluster
    killed = json.loads(json.dumps(POD))
    killed["status"]["containerStatuses"][1]["state"] = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    pods.append(killed)
    (found,) = failed_pods(variables, account)
    assert found.step == "validate_data"
    assert found.reason.startswith("It was out of memory")
    assert found.reason.endswith("Raise targets.kubeflow.steps.validate_data.memory.")


def test_an_account_that_may_not_read_pods_is_said_in_the_log_and_changes_nothing(
    cluster: tuple[dict[str, str], Path, list[Any], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    variables, account, _, _ = cluster
    assert failed_pods(variables, account) == []
    assert "Kubernetes does not tell which step failed: HTTPError" in capsys.readouterr().err
    assert failed_pods({}, account) == []
