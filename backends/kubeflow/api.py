"""Kubeflow Pipelines API: kfp's own client, asked again where it does not answer, refusals in plain words."""

from __future__ import annotations

import contextlib
import io
import json
import os
import warnings
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import kfp
import kfp_server_api
import urllib3

from kfp_lifecycle.backends.backend import BackendError, NotThere, Unreachable
from kfp_lifecycle.backends.kubeflow.credentials import REMEDY, who_asks
from kfp_lifecycle.config.targets import KubeflowTarget
from kfp_lifecycle.runtime.asking import RETRIED, ask_again, root_of

T = TypeVar("T")

# HTTP statuses of a server, or of a login before it, that does not know who asks.
LOGGED_OUT = {301, 302, 303, 307, 401}
# Seconds to connect, and between two pieces of an answer.
TIMEOUT = (10, 60)
# What a connection that cannot be made, or breaks off, raises.
NETWORK = (urllib3.exceptions.HTTPError, OSError)
# A log that cannot be read is answered with status 200 and this.
NO_LOG = '{"error_message":'


class KubeflowApi:
    """The API server of a Kubeflow.

    Args:
        target: What the project says of the Kubeflow.
    """

    def __init__(self, target: KubeflowTarget) -> None:
        self._target = target
        self._client_made: kfp.Client | None = None

    @property
    def _client(self) -> kfp.Client:
        if self._client_made is None:
            if not (self._target.endpoint or os.environ.get("KUBERNETES_SERVICE_HOST") or _kubeconfig().is_file()):
                raise BackendError(
                    "it is not known where the Kubeflow is: set targets.kubeflow.endpoint in pipeline.yaml to the "
                    f"address that a browser shows before /#/, or log in to its cluster ({_kubeconfig()} is missing)"
                )
            who = who_asks(self._target.endpoint)
            with _quietly():
                client = kfp.Client(
                    host=self._target.endpoint or None,
                    existing_token=who.token,
                    cookies=who.cookies,
                    credentials=who.file,
                    namespace=self._target.installation,
                )
            _be_patient_once(client._run_api.api_client.rest_client)
            self._client_made = client
        return self._client_made

    def ask(self, what: str, call: Callable[[kfp.Client], T], *, repeat: bool = True) -> T:
        """Ask the API server, again where it does not answer.

        Args:
            what: What is asked, for messages: `list the runs`.
            call: Asks it of a client.
            repeat: Whether asking twice does no harm.

        Raises:
            NotThere, Unreachable, BackendError: in plain words.
        """
        try:
            return ask_again(lambda: self._call(call), _passes) if repeat else self._call(call)
        except kfp_server_api.ApiException as error:
            raise self._refusal(what, error) from error
        except NETWORK as error:
            raise Unreachable(
                f"the Kubeflow at {self._host} does not answer when asked to {what}: {root_of(error)}. "
                "See that targets.kubeflow.endpoint is its address and that it is up."
            ) from error

    def _call(self, call: Callable[[kfp.Client], T]) -> T:
        """Ask once; again by a new client where the server does not know who asks: a token is short-lived, and whoever
        writes it may have written another."""
        try:
            with _quietly():
                return call(self._client)
        except kfp_server_api.ApiException as error:
            if error.status not in LOGGED_OUT:
                raise
        self._client_made = None
        with _quietly():
            return call(self._client)

    def _refusal(self, what: str, error: kfp_server_api.ApiException) -> BackendError:
        said = _said(error)
        if error.status in LOGGED_OUT:
            return BackendError(
                f"the Kubeflow at {self._host} does not know who asks to {what} ({error.status}): {REMEDY}. "
                f"It says: {said}"
            )
        if error.status == 403:
            return BackendError(
                f"this account may not {what} in namespace {self._target.namespace or '(none)'} (403): see "
                f"targets.kubeflow.namespace, and ask for the role kubeflow-pipelines-edit there. It says: {said}"
            )
        if error.status == 404:
            return NotThere(f"the Kubeflow at {self._host} does not have it: {said}")
        kind = Unreachable if error.status in RETRIED else BackendError
        return kind(f"the Kubeflow at {self._host} does not {what} ({error.status}): {said}")

    @property
    def _host(self) -> str:
        return self._target.endpoint or "this cluster"

    def version(self) -> str:
        """The version of Kubeflow Pipelines; empty where it does not say: its newer API has no word for it."""
        self.ask("say that it is well", lambda client: client.get_kfp_healthz())

        def read(client: kfp.Client) -> Any:
            return client._run_api.api_client.call_api(
                "/apis/v1beta1/healthz",
                "GET",
                auth_settings=["Bearer"],
                response_type="object",
                _return_http_data_only=True,
                _request_timeout=TIMEOUT,
            )

        try:
            answer = self.ask("tell its version", read)
        except BackendError:
            return ""
        return str(answer.get("tag_name", "")) if isinstance(answer, dict) else ""

    def log_lines(self, run_id: str, pod: str, *, follow: bool) -> Iterator[str]:
        """Lines of a pod's log.

        Args:
            run_id: The pod's run.
            pod: Its name.
            follow: Wait for those that are still to come.

        Raises:
            NotThere: there is no such log, or not any more.
        """

        def read(client: kfp.Client) -> Any:
            return client._run_api.api_client.call_api(
                f"/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log",
                "GET",
                query_params=[("follow", "true")] if follow else [],
                auth_settings=["Bearer"],
                _return_http_data_only=True,
                _preload_content=False,
                _request_timeout=(TIMEOUT[0], None) if follow else TIMEOUT,
            )

        try:
            answer = self.ask("read a log", read, repeat=False)
        except BackendError as error:
            raise NotThere(f"the log of pod {pod} is gone, or not there yet ({error})") from error
        # Else it closes itself under whoever reads its last line.
        answer.auto_close = False
        lines = (line.rstrip("\n") for line in io.TextIOWrapper(answer, "utf-8", "replace"))
        begin = list(islice(lines, 1))
        if begin and begin[0].startswith(NO_LOG):
            raise NotThere(f"the log of pod {pod} is gone, or not there yet ({begin[0]})")
        return chain(begin, lines)


def _be_patient_once(connections: Any) -> None:
    """Let a client wait for an answer no longer than TIMEOUT, where by itself it waits for ever, and leave it to `ask`
    to ask again. It follows nowhere: a session that has run out is answered by the way to log in, and a page there is
    no answer of the API.

    Args:
        connections: The client's `RESTClientObject`.
    """
    connections.pool_manager.connection_pool_kw["retries"] = urllib3.Retry(0, redirect=False)
    request = connections.request

    def timely(*arguments: Any, _request_timeout: Any = None, **named: Any) -> Any:
        return request(*arguments, _request_timeout=_request_timeout or TIMEOUT, **named)

    connections.request = timely


def _kubeconfig() -> Path:
    """The file that kubectl reads, the first where there are several."""
    return Path(os.environ.get("KUBECONFIG", "").partition(os.pathsep)[0] or Path.home() / ".kube" / "config")


def _said(error: kfp_server_api.ApiException) -> str:
    """The server's own words: grpc-gateway's message, or what a proxy before it wrote."""
    text = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else str(error.body or error.reason)
    with contextlib.suppress(ValueError, TypeError, KeyError):
        answer = json.loads(text)
        text = answer.get("message") or answer.get("error_message") or answer["error"]
    return " ".join(str(text).split())[:500]


def _passes(error: Exception) -> bool:
    """Whether the server may answer later."""
    return error.status in RETRIED if isinstance(error, kfp_server_api.ApiException) else isinstance(error, NETWORK)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """kfp's client prints links of its own, and warns of versions that nobody has."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore", category=FutureWarning):
        yield
