"""Local traffic: each version a supervised server, Envoy in front, traffic moved by its routes."""

from __future__ import annotations

import filecmp
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.deployment import ReleaseStep
from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import JSON, SHADOW_HEADER, Answer
from kfp_lifecycle.serving.ports import free_ports, is_free
from kfp_lifecycle.serving.release.local.envoy import Listener, certificate_of, statistics_ports
from kfp_lifecycle.serving.release.local.history import Event, Outcome, record
from kfp_lifecycle.serving.release.local.operations import DRAIN_SECONDS, Endpoint, endpoint_of
from kfp_lifecycle.serving.release.local.routing import VERSION_HEADER
from kfp_lifecycle.serving.release.local.servers import (
    bring_up,
    envoy_of,
    programs_of,
    running,
    serving_interpreter,
    startable,
    version_folder,
    with_server,
)
from kfp_lifecycle.serving.release.local.shadow import shadow_token
from kfp_lifecycle.serving.release.local.state import (
    Change,
    Phase,
    Release,
    ServedVersion,
    read_releases,
    write_release,
)
from kfp_lifecycle.serving.release.local.supervisor import Supervisor
from kfp_lifecycle.serving.release.traffic import Counts, Stage, Tally
from kfp_lifecycle.serving.server_secrets import server_variables

# What a server reads. The pickled estimator stays behind: a server never loads one.
NOT_SERVED = shutil.ignore_patterns("*.joblib", "__pycache__")


class LocalTraffic:
    """A release of one version of one model in a serving folder, which the caller holds (`only_one`)."""

    addressable = True
    champion_stays = True
    counts_come_late = False

    def __init__(
        self, folder: Path, deployment: Deployment, version: str, *, online_store: str, prediction_log: str
    ) -> None:
        """Read what is released now.

        Args:
            folder: The serving folder.
            deployment: The model's name, and the endpoint's port; gRPC takes the next.
            version: The candidate.
            online_store: Where servers look up features.
            prediction_log: Where servers write predictions.
        """
        self.folder = folder.resolve()
        self.model = deployment.model
        self.candidate = version
        self._deployment = deployment
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._settings: dict[str, Any] = {
            "online_store": online_store,
            "prediction_log": prediction_log,
            "settings": deployment.server_arguments(),
            "variables": server_variables(deployment, online_store, prediction_log),
        }
        releases = {item.model: item for item in read_releases(self.folder)}
        recorded = releases.pop(self.model, None)
        # Of a release that is resumed, the record of before is meant.
        before = recorded.without_change() if recorded is not None else None
        self._before = startable(self.folder, before) if before is not None else None
        self._others = running(self.folder, list(releases.values()))
        self.champion = before.version if before is not None else None
        self.release = self._begun(recorded, deployment.http_port)
        self.envoy = envoy_of(self.folder, self.release)

    def _begun(self, recorded: Release | None, http_port: int) -> Release:
        if recorded is not None and recorded.change is not None and recorded.change.phase != "registry":
            return startable(self.folder, recorded)
        return self._with_address(http_port)

    def _with_address(self, http_port: int) -> Release:
        tls = certificate_of(self._deployment.server.tls)
        if self._before is not None and self._before.listener.http_port == http_port:
            if tls == self._before.listener.tls:
                return self._before
            if not is_free(http_port):
                raise ContractViolation(
                    f"the endpoint of {self.model} on port {http_port} answers "
                    f"{'in the clear' if self._before.listener.tls is None else 'by TLS'}, and deployment.server.tls "
                    "says otherwise now: stop it with `lifecycle down`, and release again"
                )
        listener = Listener(http_port, http_port + 1, statistics_ports(http_port), tls)
        if self._before is not None:
            return replace(self._before, listener=listener)
        return Release(self.model, self.candidate, None, listener, ())

    @property
    def prediction_log(self) -> str:
        """Where the champion's server writes; the candidate's, where there is none."""
        versions = [version for version in (self.champion, self.candidate) if version is not None]
        written = {server.version: server.prediction_log for server in self.release.servers}
        return next((written[version] for version in versions if version in written), self._settings["prediction_log"])

    def is_champion(self, model_folder: Path) -> bool:
        """Whether this very version serves already.

        Raises:
            ContractViolation: a version of this name serves, and it is another model.
        """
        if self.champion != self.candidate:
            return False
        served = version_folder(self.folder, self.model, self.candidate)
        _, different, missing = filecmp.cmpfiles(served, model_folder, ["model.onnx", "model.json"], shallow=False)
        if different or missing:
            raise ContractViolation(
                f"version {self.candidate} of {self.model} is served already from another model than "
                f"{model_folder}: {', '.join(different + missing)} differ. Register it as a new version, or remove "
                f"what is served: `lifecycle down`, then delete {self.folder / self.model}."
            )
        return True

    def endpoint(self) -> Endpoint:
        """What answers now, and where."""
        return endpoint_of(self.folder, self.release)

    def note(self, outcome: Outcome, strategy: str, why: str = "", steps: Sequence[ReleaseStep] = ()) -> None:
        """Add a line to the history."""
        evidence = [step.model_dump(mode="json") for step in steps]
        record(self.folder, Event(self.model, self.candidate, self.champion, outcome, strategy, why, evidence))

    def copy_candidate(self, model_folder: Path) -> None:
        """Give the candidate a folder of its own: the run's may be removed."""
        place = version_folder(self.folder, self.model, self.candidate)
        temporary = place.with_name(f".{self.candidate}.new")
        for leftover in (temporary, place):
            shutil.rmtree(leftover, ignore_errors=True)
        shutil.copytree(model_folder, temporary, ignore=NOT_SERVED)
        temporary.rename(place)

    def ensure_running(self) -> None:
        """Make what is released answer, where it is not."""
        bring_up(self.folder, [*self._others, self.release])
        write_release(self.folder, self.release)

    def start_candidate(self) -> None:
        """Start its server beside the champion's; one of a release that is resumed runs, or is started again."""
        if self.candidate not in {server.version for server in self.release.servers}:
            http_port, grpc_port = free_ports(2)
            server = ServedVersion(self.candidate, http_port, grpc_port, serving_interpreter(), **self._settings)
            self.release = with_server(self.release, server)
        if self.release.change is None:
            self._intend(Stage(0), "starting")
        else:
            self._intend(Stage(self.release.change.percent, self.release.change.mirror), "sharing")
        bring_up(self.folder, [*self._others, self.release])
        self._client = self.release.listener.client()

    def _intend(self, stage: Stage, phase: Phase, why: str = "") -> None:
        """Write down what is to be, before it is."""
        change = Change(
            action="release",
            candidate=self.candidate,
            champion=self.champion,
            phase=phase,
            percent=stage.percent,
            mirror=stage.mirror,
            why=why,
            settings=self._deployment.model_dump(mode="json"),
        )
        self.release = replace(self.release, change=change)
        write_release(self.folder, self.release)

    def shift(self, stage: Stage) -> None:
        """Change Envoy's routes."""
        self._intend(stage, "sharing")
        self.envoy.publish(self.release.servers, self.release.split)

    def pause(self, why: str) -> None:
        """Leave the shares as they are, until somebody decides."""
        change = self.release.change
        if change is not None:
            self._intend(Stage(change.percent, change.mirror), "paused", why)

    def ask(self, version: str, request: dict[str, Any]) -> Answer:
        """Through Envoy, to one version."""
        headers = {**JSON, VERSION_HEADER: version, SHADOW_HEADER: shadow_token(self.folder)}
        return self._client.post(f"/v2/models/{self.model}/infer", request, headers)

    def counts(self, version: str) -> Counts:
        """What the Envoys counted."""
        return self._tallies[version].take(self.envoy.counts(version))

    def promote(self) -> None:
        """Record the new champion, keep the old one running, and let older versions go."""
        kept = [version for version in (self.candidate, self.champion) if version is not None]
        servers = tuple(self.release.server(version) for version in kept)
        self.release = replace(
            self.release,
            version=self.candidate,
            previous_version=self.champion,
            servers=servers,
            change=None,
            fallback=True,
        )
        write_release(self.folder, self.release)
        self._let_go()

    def withdraw(self) -> None:
        """Back to the record of before."""
        if self._before is None:
            supervisor = Supervisor(self.folder)
            if self._others:
                supervisor.apply([program for item in self._others for program in programs_of(self.folder, item)])
            else:
                supervisor.stop()
            shutil.rmtree(self.folder / self.model, ignore_errors=True)
            return
        if self.envoy.is_ready():
            # The candidate is known to Envoy until it has answered its last request.
            self.envoy.publish(self.release.servers, self._before.split)
        self.release = self._before
        write_release(self.folder, self.release)
        self._let_go()

    def _let_go(self) -> None:
        """Stop servers that are no longer in the release, after their last answer, and remove their folders."""
        kept = {server.version for server in self.release.servers}
        place = version_folder(self.folder, self.model, self.candidate).parent
        gone = [folder for folder in place.iterdir() if folder.name not in kept]
        for folder in gone:
            self.envoy.wait_until_drained(folder.name, DRAIN_SECONDS)
        bring_up(self.folder, [*self._others, self.release])
        for folder in gone:
            shutil.rmtree(folder)
