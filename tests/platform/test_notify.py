"""The exit handler tells how a run ended, and keeps a secret."""

import email.policy
import json
import re
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from apprise import NotifyType
from apprise.plugins.slack import NotifySlack
from guarded_step import work
from kfp import compiler, dsl
from kfp.dsl import PipelineTaskFinalStatus

from kfp_lifecycle.components.operations.notify.component import notify
from kfp_lifecycle.components.operations.notify.decisions import Decision
from kfp_lifecycle.components.operations.notify.delivery import ATTEMPTS, Delivery, deliver, receivers
from kfp_lifecycle.components.operations.notify.message import LONGEST_REASON, RunEnd, describe_end
from kfp_lifecycle.components.operations.notify.pods import FailedPod, Told, told_by_pods
from kfp_lifecycle.components.operations.notify.sending import Sent, send
from kfp_lifecycle.components.operations.notify.vertex_job import VertexJob, decided_on_vertex, job_on_vertex
from kfp_lifecycle.components.operations.notify.vertex_metric import tell_cloud_monitoring
from kfp_lifecycle.local.kfp_runner import Session, StepOutputs, run_pipeline
from kfp_lifecycle.runtime.contract import step
from kfp_lifecycle.runtime.state_folder import state_folder
from tests.json_service import Answer, Request, json_service

SECRET = "T024-B911-x9s8d7f6"
# A busy machine answers late.
PATIENT = "cto=60&rto=60"


@dataclass
class Webhook:
    """A receiver that answers as told, one answer for each request, the last for all that follow."""

    answers: list[int]
    port: int = 0
    received: list[dict[str, Any]] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    """No answer is given before it is set."""

    @property
    def url(self) -> str:
        """As Apprise writes it."""
        return f"json://127.0.0.1:{self.port}/services/{SECRET}?{PATIENT}"


@contextmanager
def receiving(*answers: int, slow: bool = False) -> Iterator[Webhook]:
    webhook = Webhook(list(answers))
    if not slow:
        webhook.hold.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = webhook.answers[min(len(webhook.received), len(webhook.answers) - 1)]
            webhook.received.append({"path": self.path, **content})
            webhook.hold.wait(60)
            self.send_response(answer)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            # Slack's own word.
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *arguments: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        webhook.port = port
        yield webhook
        webhook.hold.set()


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def receiving_mail() -> Iterator[tuple[str, list[str]]]:
    """An SMTP server: its address as Apprise writes it, and the mails that it takes."""
    mails: list[str] = []

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline():
                word = line.split()[0].upper() if line.split() else b""
                if word == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = iter(self.rfile.readline, b".\r\n")
                    mails.append(b"".join(lines).decode())
                self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 well\r\n")
                if word == b"QUIT":
                    return

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session)) as port:
        yield f"mailto://127.0.0.1:{port}?from=lifecycle@example.org&to=team@example.org&{PATIENT}", mails


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


def sent_to(*urls: str, title: str = "training: done.", body: str = "See the report.") -> list[Delivery]:
    return deliver(title, body, NotifyType.INFO, receivers("HERE", " ".join(urls)), first_wait_seconds=0.01)


def test_a_message_arrives_as_json_that_scripts_read() -> None:
    with receiving(200) as webhook:
        (done,) = sent_to(webhook.url)
    assert done.failure == ""
    (content,) = webhook.received
    assert content["path"] == f"/services/{SECRET}"
    assert (content["title"], content["message"], content["type"]) == ("training: done.", "See the report.", "info")


def test_a_message_arrives_as_mail() -> None:
    with receiving_mail() as (url, mails):
        (done,) = sent_to(url, title="churn: ünwohl")
    assert done.failure == ""
    parsed = email.message_from_string(mails[0], policy=email.policy.default)
    assert parsed["Subject"] == "churn: ünwohl"
    assert parsed["To"] == "team@example.org"
    assert "See the report." in str(parsed.get_body())


def test_what_a_step_said_cannot_call_a_whole_channel_of_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving(200) as webhook:
        monkeypatch.setattr(NotifySlack, "webhook_url", f"http://127.0.0.1:{webhook.port}")
        (done,) = sent_to(
            "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ?" + PATIENT,
            body="<!channel> <@U6TTX1F9R> @here a < b & co",
        )
    assert done.failure == ""
    said = json.dumps(webhook.received[0], ensure_ascii=False)
    assert "‹!channel›" in said
    assert not re.search(r"<[!@]|@here", said)


def test_each_receiver_is_told_and_each_failure_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with receiving(200) as well, receiving(404) as gone:
        done = sent_to(gone.url, well.url)
    assert [each.failure for each in done] == ["it refuses it (404)", ""]
    assert len(well.received) == 1
    assert capfd.readouterr().err == "The message was not delivered to HERE (1 of 2): it refuses it (404).\n"


def test_a_receiver_that_is_down_for_a_moment_gets_the_message() -> None:
    with receiving(503, 429, 200) as webhook:
        (done,) = sent_to(webhook.url)
    assert (done.failure, len(webhook.received)) == ("", 3)


def test_a_receiver_that_stays_down_is_given_up() -> None:
    with receiving(500) as webhook:
        (done,) = sent_to(webhook.url)
    assert (done.failure, len(webhook.received)) == ("it answered 500", ATTEMPTS)


@pytest.mark.parametrize("answer", [404, 307])
def test_a_receiver_that_refuses_or_sends_elsewhere_is_not_asked_again(answer: int) -> None:
    with receiving(answer) as webhook:
        (done,) = sent_to(webhook.url)
    assert (done.failure, len(webhook.received)) == (f"it refuses it ({answer})", 1)


def test_a_slow_receiver_holds_up_neither_the_run_nor_the_others() -> None:
    with receiving(200, slow=True) as slow, receiving(200) as quick:
        done = sent_to(slow.url.replace("rto=60", "rto=0.05"), quick.url)
    assert [each.failure for each in done] == ["it does not answer, or did not take it", ""]


@pytest.mark.parametrize(
    "address",
    [
        f"json://127.0.0.1:1/{SECRET}",
        f"file:///etc/{SECRET}",
        f"json://[{SECRET}",
        f"slack://{SECRET}",
        f"{SECRET}",
        f"mailto://user:{SECRET}@127.0.0.1:1?to=a@example.org",
    ],
)
def test_the_address_is_never_printed_even_when_it_is_wrong(address: str, capfd: pytest.CaptureFixture[str]) -> None:
    (done,) = sent_to(address)
    assert done.failure
    printed = capfd.readouterr()
    assert "not delivered to HERE: " in printed.err
    assert SECRET not in printed.out + printed.err


def test_addresses_stand_on_lines_or_beside_each_other() -> None:
    found = receivers("HERE", "slack://a/b/c, json://host/x?to=a,b\n  mailto://me\n")
    assert [each.url for each in found] == ["slack://a/b/c", "json://host/x?to=a,b", "mailto://me"]
    assert found[2].name == "HERE (3 of 3)"
    assert receivers("HERE", " \n") == []


NOW = datetime(2026, 11, 29, 6, tzinfo=UTC)
MOVED = Decision("decide_remedy", "The charge rose on 2 November; retrain.", True)
QUIET = Decision("decide_remedy", "The world is as the model knows it.", False)


def ended(*decided: Decision) -> RunEnd:
    return describe_end(status("SUCCEEDED", "exit-handler-1", None), "monitoring", "monitoring-7", decided=decided)


def test_what_was_decided_is_the_message() -> None:
    started = Decision("trigger_retraining", "The training pipeline is started as retraining-7.", False)
    end = ended(MOVED, started)
    assert end.text.splitlines() == [
        "monitoring: The charge rose on 2 November; retrain.",
        "The training pipeline is started as retraining-7.",
        "The report of run monitoring-7 says more.",
    ]
    assert end.alarm


def test_who_is_told_of_alarms_alone_hears_nothing_of_a_quiet_week() -> None:
    with receiving(200) as everything, receiving(200) as alarms:
        to = {"LIFECYCLE_NOTIFY_URLS": everything.url, "LIFECYCLE_NOTIFY_ALARM_URLS": alarms.url}
        send(ended(QUIET), to)
        assert (len(everything.received), len(alarms.received)) == (1, 0)
        send(ended(MOVED), to)
        send(describe_end(status(), "training"), to)
    assert [each["type"] for each in alarms.received] == ["warning", "failure"]


def test_what_was_said_before_is_counted_and_told_with_the_next(tmp_path: Path) -> None:
    with receiving(200) as webhook:
        to = {
            "LIFECYCLE_NOTIFY_URLS": webhook.url,
            "LIFECYCLE_NOTIFY_LEDGER": str(tmp_path / "ledger.json"),
            "LIFECYCLE_NOTIFY_REPEAT_HOURS": "3",
        }

        def say(hours: float, sentence: str) -> Sent:
            return send(ended(Decision("decide_remedy", sentence, True)), to, NOW + timedelta(hours=hours))

        assert say(0, "33 left where 18 were foretold.").delivered == 1
        # The same, whatever its figures are.
        assert say(1, "35 left where 18 were foretold.").held_back
        assert say(2.9, "31 left where 17 were foretold.").held_back
        assert say(2.9, "Nobody logs in any more.").delivered == 1
        assert say(3, "33 left where 18 were foretold.").delivered == 1
        assert say(6, "33 left where 18 were foretold.").delivered == 1
    told = [content["message"].splitlines()[-1] for content in webhook.received]
    assert told[2] == "The same was said 2 times more since 2026-11-29T06:00, and not sent."
    assert {told[number] for number in (0, 1, 3)} == {"The report of run monitoring-7 says more."}


def test_what_nobody_took_is_said_again(tmp_path: Path) -> None:
    with receiving(404, 200) as webhook:
        to = {"LIFECYCLE_NOTIFY_URLS": webhook.url, "LIFECYCLE_NOTIFY_LEDGER": str(tmp_path / "ledger.json")}
        assert "Not delivered to LIFECYCLE_NOTIFY_URLS: it refuses it (404)." in send(ended(MOVED), to, NOW).markdown
        assert send(ended(MOVED), to, NOW).delivered == 1


@pytest.mark.parametrize("content", ["", "[]", '{"a": {}}', '{"a": {"sent_at": "once", "held_back": 0}}'])
def test_a_ledger_that_cannot_be_read_is_told_and_all_is_sent(
    tmp_path: Path, content: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ledger.json"
    file.write_text(content)
    with receiving(200) as webhook:
        to = {"LIFECYCLE_NOTIFY_URLS": webhook.url, "LIFECYCLE_NOTIFY_LEDGER": str(file)}
        assert send(ended(MOVED), to, NOW).delivered == 1
        assert send(ended(MOVED), to, NOW).held_back
    assert "cannot be read, so that all is sent" in capfd.readouterr().err


JOB = "projects/p/locations/europe-west4/pipelineJobs/run-7"


def test_on_vertex_what_was_decided_is_found_in_the_jobs_record(capfd: pytest.CaptureFixture[str]) -> None:
    def artifact(**metadata: str) -> dict[str, Any]:
        return {"artifacts": [{"metadata": metadata}]}

    job = [
        {"taskName": "trigger-retraining", "outputs": {"request": artifact(sentence="It is started.")}},
        {"taskName": "detect-drift", "outputs": {"drift": artifact(sentence="charge drifted", verdict="world moved")}},
        {"taskName": "decide-remedy", "outputs": {"remedy": artifact(sentence="It moved.", verdict="world moved")}},
        {"taskName": "notify"},
    ]

    def answer(request: Request) -> Answer | dict[str, Any]:
        if request.path.startswith("/computeMetadata"):
            return {"access_token": "a-token"} if request.headers["Metadata-Flavor"] == "Google" else Answer(status=403)
        allowed = request.headers["Authorization"] == "Bearer a-token" and request.path == f"/v1/{JOB}"
        return {"jobDetail": {"taskDetails": job}} if allowed else Answer({}, 403)

    with json_service(answer) as url:
        variables = {"GCE_METADATA_HOST": url.removeprefix("http://"), "LIFECYCLE_VERTEX_ENDPOINT": url}
        found = job_on_vertex(JOB, variables)
        assert decided_on_vertex(found) == [
            Decision("decide_remedy", "It moved.", True),
            Decision("trigger_retraining", "It is started.", False),
        ]
        assert decided_on_vertex(job_on_vertex(f"{JOB}-of-others", variables)) == []
    assert "Vertex AI does not tell of the run: HTTPError" in capfd.readouterr().err
    assert decided_on_vertex(VertexJob("p", "l", "a-token", {"state": "running"})) == []
    assert "Vertex AI does not tell what was decided: KeyError" in capfd.readouterr().err
    for of_another_platform in ("run-7", None):
        assert job_on_vertex(of_another_platform, {}) is None


def test_on_vertex_a_runs_end_is_left_where_an_alert_on_a_missing_one_reads_it(
    capfd: pytest.CaptureFixture[str],
) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Answer:
        asked.append(request)
        return Answer({}, 200 if request.headers["Authorization"] == "Bearer a-token" else 403)

    job = VertexJob("p", "europe-west4", "a-token", {"labels": {"lifecycle_project": "churn"}})
    with json_service(answer) as url:
        variables = {"LIFECYCLE_CLOUD_MONITORING_ENDPOINT": url}
        tell_cloud_monitoring(job, "monitoring", "done", variables, NOW)
        tell_cloud_monitoring(None, "monitoring", "done", variables, NOW)
        assert capfd.readouterr().err == ""
        tell_cloud_monitoring(replace(job, token="another"), "monitoring", "done", variables, NOW)
    said = capfd.readouterr().err
    assert "Cloud Monitoring is not told of the run's end, which takes monitoring.timeSeries.create: HTTPError" in said
    assert "another" not in said
    assert [request.path for request in asked] == ["/v3/projects/p/timeSeries"] * 2
    (series,) = asked[0].json()["timeSeries"]
    assert series["metric"] == {
        "type": "custom.googleapis.com/lifecycle_run_finished_seconds",
        "labels": {"project": "churn", "pipeline": "monitoring", "state": "done"},
    }
    (point,) = series["points"]
    assert point == {
        "interval": {"endTime": "2026-11-29T06:00:00+00:00"},
        "value": {"int64Value": str(int(NOW.timestamp()))},
    }


@dsl.pipeline(name="guarded")
def guarded(reason: str):
    with dsl.ExitHandler(notify(pipeline="guarded").set_caching_options(False)):
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


def run_guarded(folder: Path, reason: str, **variables: str) -> tuple[Watch, str]:
    compiled = folder / "guarded.yaml"
    compiler.Compiler().compile(guarded, str(compiled))
    watch = Watch()
    for name in ("logs", "scratch"):
        (folder / name).mkdir()
    run_pipeline(
        compiled,
        {"reason": reason},
        session=Session(watch, folder / "logs", folder / "scratch", state_folder() / "code", variables),
        artifacts=folder / "artifacts",
        cache_root=None,
        kfp_log=folder / "logs" / "kfp.log",
    )
    return watch, "".join(file.read_text("utf-8") for file in (folder / "logs").iterdir())


@pytest.mark.slow
def test_in_a_real_run_a_failing_step_is_told_and_the_secret_is_in_no_log(tmp_path: Path) -> None:
    with receiving(200) as webhook:
        watch, logs = run_guarded(
            tmp_path, "amount is negative; correct the source", LIFECYCLE_NOTIFY_ALARM_URLS=webhook.url
        )
    assert watch.states == {"work": "failed", "notify": "done"}
    (content,) = webhook.received
    assert content["title"] == "guarded: failed at work."
    assert content["message"].startswith("amount is negative; correct the source\n")
    path, metadata = watch.outputs["notify"].artifacts["message"]
    assert Path(path).read_text("utf-8").startswith("**guarded: failed at work.**")
    assert (metadata["state"], metadata["delivered"], metadata["undelivered"]) == ("failed", 1, 0)
    assert SECRET not in logs


@pytest.mark.slow
def test_in_a_real_run_that_decides_it_is_told_and_a_dead_receiver_changes_nothing(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    metadata = {"sentence": MOVED.sentence, "verdict": "world moved"}
    artifacts = {"remedy": {"path": "/x", "metadata": metadata}}
    lines = [{"steps": ["decide-remedy"]}, {"step": "decide-remedy", "state": "done", "artifacts": artifacts}]
    events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with receiving(404) as webhook:
        watch, logs = run_guarded(tmp_path, "", LIFECYCLE_NOTIFY_URLS=webhook.url, LIFECYCLE_RUN_EVENTS=str(events))
    assert watch.states == {"work": "done", "notify": "done"}
    path, metadata = watch.outputs["notify"].artifacts["message"]
    assert Path(path).read_text("utf-8").startswith(f"**guarded: {MOVED.sentence}**")
    assert "not delivered to LIFECYCLE_NOTIFY_URLS: it refuses it (404)" in logs
    assert (metadata["alarm"], metadata["delivered"], metadata["undelivered"]) == (True, 0, 1)


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
    found = told_by_pods(variables, account).failed
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
    (found,) = told_by_pods(variables, account).failed
    assert found.step == "validate_data"
    assert found.reason.startswith("It was out of memory")
    assert found.reason.endswith("Raise targets.kubeflow.steps.validate_data.memory.")


def test_an_account_that_may_not_read_pods_is_said_in_the_log_and_changes_nothing(
    cluster: tuple[dict[str, str], Path, list[Any], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    variables, account, _, _ = cluster
    assert told_by_pods(variables, account) == Told()
    assert "Kubernetes does not tell what became of the steps: HTTPError" in capsys.readouterr().err
    assert told_by_pods({}, account) == Told()


def test_what_a_step_decided_is_found_in_its_pods_last_words(
    cluster: tuple[dict[str, str], Path, list[Any], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables, account, pods, _ = cluster
    monkeypatch.setenv("TERMINATION_LOG", str(tmp_path / "words"))
    for name, said in {
        "trigger_retraining": "It is started.",
        "decide_remedy": "ä" * 5000,
        "detect_drift": "x",
    }.items():
        artifact = SimpleNamespace(metadata={})
        with step(artifact):
            artifact.metadata.update(sentence=said, verdict="world moved", summary="x")
        pod = json.loads(json.dumps(POD))
        pod["spec"]["containers"][1]["command"][-1] = name
        ended = {"exitCode": 0, "reason": "Completed", "message": (tmp_path / "words").read_text("utf-8")}
        pod["status"]["containerStatuses"][1]["state"] = {"terminated": ended}
        pods.append(pod)
    told = told_by_pods(variables, account)
    assert told.failed == []
    assert [(each.step, each.sentence[:5], each.alarm) for each in told.decided] == [
        ("decide_remedy", "äääää", True),
        ("trigger_retraining", "It is", True),
    ]
