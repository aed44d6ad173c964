"""Vertex AI API: Google's own client, asked again where it does not answer, refusals in plain words.

The client of the API is used, and not the one for people above it (`aiplatform.PipelineJob`): that takes three times
as long to import, keeps its settings in the module, prints, and makes a bucket where one is missing.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import google.auth
import requests
from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.auth import exceptions as auth_exceptions
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession, Request
from google.cloud import aiplatform_v1 as api

from kfp_lifecycle.backends.backend import BackendError, NotThere, Unreachable
from kfp_lifecycle.backends.registries import saved_login
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.locations import VertexServing, serving_place
from kfp_lifecycle.config.targets import VertexTarget
from kfp_lifecycle.runtime.asking import RETRIED, ask_again, root_of

T = TypeVar("T")

CONSOLE = "https://console.cloud.google.com"
# What asking Vertex AI takes.
ROLE = "roles/aiplatform.user"
GOOGLE_REGISTRIES = (".pkg.dev", "gcr.io")
# Seconds that one answer may take.
TIMEOUT = 60.0
# What a connection that cannot be made, or breaks off, raises.
NETWORK = (auth_exceptions.TransportError, requests.RequestException, OSError)


class Taken(BackendError):
    """There is one of that name."""


class VertexApi:
    """The API of a Google Cloud project in a region.

    Args:
        target: What the project says of Vertex AI.

    Raises:
        ConfigurationError: it is not known in which Google Cloud project and region.
    """

    def __init__(self, target: VertexTarget) -> None:
        self._target = target
        serving = serving_place(target.serving)
        place = serving if isinstance(serving, VertexServing) else VertexServing("", "")
        self.project = target.project or place.project
        self.location = target.location or place.location
        if not (self.project and self.location):
            raise ConfigurationError(
                "it is not known where on Vertex AI pipelines run: set targets.vertex.project and "
                "targets.vertex.location in pipeline.yaml"
            )
        self.parent = f"projects/{self.project}/locations/{self.location}"

    @cached_property
    def version(self) -> Any:
        """Google's client of the version that jobs and schedules are asked in: v1, if it knows all that is wanted."""
        if not self._target.persistent_resource:
            return api
        from google.cloud import aiplatform_v1beta1

        return aiplatform_v1beta1

    @cached_property
    def jobs(self) -> Any:
        """Pipeline jobs."""
        return self._client(self.version.PipelineServiceClient)

    @cached_property
    def schedules(self) -> Any:
        """Schedules of pipeline jobs."""
        return self._client(self.version.ScheduleServiceClient)

    @cached_property
    def metadata(self) -> Any:
        """Vertex ML Metadata."""
        return self._client(api.MetadataServiceClient)

    @property
    def _endpoint(self) -> str:
        return self._target.endpoint or f"https://{self.location}-aiplatform.googleapis.com"

    @property
    def _is_anonymous(self) -> bool:
        """Whether no token is sent, since others may read it on the way."""
        return self._endpoint.startswith("http://")

    def _client(self, kind: Callable[..., Any]) -> Any:
        credentials = AnonymousCredentials() if self._is_anonymous else None  # type: ignore[no-untyped-call]
        with warnings.catch_warnings(action="ignore"):
            # REST, since gRPC's threads outlive a call, and proxies know HTTP.
            return kind(
                credentials=credentials,
                transport="rest",
                client_options=ClientOptions(api_endpoint=self._endpoint),
            )

    def service(
        self, what: str, service: str, path: str, body: dict[str, Any] | None = None, *, role: str = ROLE
    ) -> dict[str, Any]:
        """Ask another one of Google's services, by its REST interface: none of their clients is needed for the few
        questions that there are.

        Args:
            what: What is asked, for messages.
            service: `logging`, say.
            path: What is read there.
            body: What is sent there; without it, it is only read.
            role: The role that it takes.

        Raises:
            NotThere, Unreachable, BackendError: in plain words.
        """
        # What stands in for Vertex AI stands in for them too.
        host = self._endpoint if self._is_anonymous else f"https://{service}.googleapis.com"
        return self._read(what, service, f"{host}{path}", body, role)

    def vertex(self, what: str, path: str) -> dict[str, Any]:
        """Read something of Vertex AI itself that is asked for too seldom for its client.

        Raises:
            NotThere, Unreachable, BackendError: in plain words.
        """
        return self._read(what, "aiplatform", f"{self._endpoint}{path}", None, ROLE)

    def _read(self, what: str, service: str, url: str, body: dict[str, Any] | None, role: str) -> dict[str, Any]:
        def read(_: dict[str, Any]) -> dict[str, Any]:
            answer = self._session.request("GET" if body is None else "POST", url, json=body, timeout=TIMEOUT)
            if not answer.ok:
                raise exceptions.from_http_response(answer)  # type: ignore[no-untyped-call]
            found: dict[str, Any] = answer.json()
            return found

        return self.ask(what, read, role=role, service=service)

    @cached_property
    def _session(self) -> Any:
        return requests.Session() if self._is_anonymous else AuthorizedSession(self._credentials)  # type: ignore[no-untyped-call]

    @cached_property
    def _credentials(self) -> Any:
        return google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])[0]

    def registry_login(self, host: str) -> tuple[str, str] | None:
        """Who asks a registry of images: Google's by the same credentials, others as whoever is logged in there."""
        if self._is_anonymous or not host.endswith(GOOGLE_REGISTRIES):
            return saved_login(host)
        try:
            self._credentials.refresh(Request())
        except auth_exceptions.GoogleAuthError:
            return None
        return "oauth2accesstoken", str(self._credentials.token)

    def ask(
        self,
        what: str,
        call: Callable[[dict[str, Any]], T],
        *,
        repeat: bool = True,
        role: str = ROLE,
        service: str = "aiplatform",
    ) -> T:
        """Ask the API, again where it does not answer.

        Args:
            what: What is asked, for messages: `list the runs`.
            call: Asks it, given how long to wait, and that the client is to ask but once.
            repeat: Whether asking twice does no harm.
            role: The role that it takes.
            service: Who is asked.

        Raises:
            NotThere, Unreachable, BackendError: in plain words.
        """

        def once() -> T:
            return call({"timeout": TIMEOUT, "retry": None})

        try:
            return ask_again(once, _passes) if repeat else once()
        except exceptions.GoogleAPICallError as error:
            raise self._refusal(what, error, role, service) from error
        except NETWORK as error:
            raise Unreachable(
                f"Vertex AI at {self._endpoint} does not answer, so that it is not known how to {what}: "
                f"{root_of(error)}. See that this machine reaches it, and that targets.vertex.location is right."
            ) from error
        except auth_exceptions.GoogleAuthError as error:
            raise BackendError(_not_logged_in(what, str(error))) from error

    def _refusal(self, what: str, error: exceptions.GoogleAPICallError, role: str, service: str) -> BackendError:
        said = _said(error)
        ours = service == "aiplatform"
        who = f"Vertex AI in {self.project}, {self.location}" if ours else f"{service}.googleapis.com"
        if error.code == 401:
            return BackendError(_not_logged_in(what, said))
        if error.code == 403:
            remedy = self._permission(said, role, service)
            return BackendError(f"this account may not {what} in {self.project} (403): {remedy}. It says: {said}")
        if error.code == 404:
            return NotThere(f"{who} does not have it: {said}")
        if error.code == 409:
            return Taken(f"{who} does not {what}, since there is one of that name (409): {said}")
        if error.code == 429:
            return Unreachable(
                f"the quota of {self.project} in {self.location} does not suffice to {what} (429): wait until "
                f"others are done, or have it raised at {CONSOLE}/iam-admin/quotas?project={self.project}. "
                f"It says: {said}"
            )
        kind = Unreachable if error.code in RETRIED else BackendError
        return kind(f"{who} does not {what} ({error.code}): {said}")

    def _permission(self, said: str, role: str, service: str) -> str:
        """Who has to allow what, by what a refusal says."""
        if "SERVICE_DISABLED" in said or "has not been used in project" in said:
            return f"enable the API, gcloud services enable {service}.googleapis.com --project={self.project}"
        if "actas" in said.lower() or "act as" in said.lower():
            account = self._target.service_account or "the Compute Engine default service account"
            return f"ask for the role roles/iam.serviceAccountUser on {account}, which the steps work as"
        return f"ask for the role {role} there"


def _passes(error: Exception) -> bool:
    """Whether the API may answer later."""
    return error.code in RETRIED if isinstance(error, exceptions.GoogleAPICallError) else isinstance(error, NETWORK)


def _not_logged_in(what: str, said: str) -> str:
    return (
        f"Google Cloud does not know who asks to {what} (401): log in by gcloud auth application-default login, or "
        f"name a service account's key in GOOGLE_APPLICATION_CREDENTIALS. It says: {' '.join(said.split())[:500]}"
    )


def _said(error: exceptions.GoogleAPICallError) -> str:
    """The server's own words, without the address that was asked."""
    text = str(error.message)
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        text = error.response.json()["error"]["message"]
    return " ".join(str(text).split())[:500]
