"""Progressive release of a model to this machine, KServe or Vertex AI."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from kfp_lifecycle.artifacts.deployment import Deployment as Record
from kfp_lifecycle.artifacts.deployment import InferenceRequest, ReleaseStep
from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.model import Model
from kfp_lifecycle.artifacts.serving import Example, ServingTrial
from kfp_lifecycle.artifacts.verdict import ScorePair, Verdict
from kfp_lifecycle.audit.approval import refuse_unapproved
from kfp_lifecycle.audit.record import file_of, open_record
from kfp_lifecycle.components.deployment.release_model.audited import record_location, recorded_release
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.deployment import Deployment
from kfp_lifecycle.config.kserve_servers import Mode
from kfp_lifecycle.config.locations import KServeServing, LocalServing, Locations, VertexServing, serving_place
from kfp_lifecycle.config.log_policy import LoggedKey
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import entity_request, v2_request
from kfp_lifecycle.serving.release.release import RolledBack, Undecided, deployment_record, release
from kfp_lifecycle.serving.release.replay import replayed_requests
from kfp_lifecycle.serving.release.traffic import Stage, Traffic

if TYPE_CHECKING:
    from kfp_lifecycle.serving.release.local.traffic import LocalTraffic

VERSION = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$")


@dataclass(frozen=True)
class Candidate:
    """A servable model: what is released."""

    folder: Path
    uri: str
    """Where a cluster finds the folder."""
    version: str
    inputs: list[Feature]
    examples: list[Example]
    entity_key: str
    """The name under which a request names its entity; empty where the model does not say."""
    threshold: float
    key_type: str = ""
    """DuckDB's type of the entity's key; empty where the model does not say."""

    def release(
        self, traffic: Traffic, deployment: Deployment, prediction_log: str, first: Stage | None = None
    ) -> list[ReleaseStep]:
        """Give it the traffic, stage by stage, asking what people asked before too.

        Args:
            traffic: The target's.
            deployment: The policy.
            prediction_log: Where what people asked is found.
            first: The stage to begin at; None: the first one.

        Raises:
            RolledBack: it is worse than the champion.
            Undecided: that cannot be told.
        """
        key = self.entity_key if deployment.prediction_log.key is LoggedKey.plain else ""
        replayed = replayed_requests(prediction_log, deployment.model, self.inputs, key)
        foreseen = self.foreseen(traffic.champion)
        return release(traffic, deployment, self.inputs, self.examples, first, replayed, self.entity_key, foreseen)

    def foreseen(self, champion: str | None) -> Sequence[ScorePair]:
        """What this model and the champion gave to the same rows when the gate compared the two; nothing where it did
        not, or compared it with another version."""
        if not (self.folder / Verdict.FILE).is_file():
            return ()
        compared = Verdict.read(self.folder / Verdict.FILE).champion
        return compared.scores if compared is not None and compared.version == champion else ()


def release_to_target(
    settings: Configuration,
    locations: Locations,
    servable: Path,
    uri: str,
    destination: Path,
    example_entity: int | float | str | None = None,
) -> dict[str, Any]:
    """Release a servable model and write the `deployment` artifact.

    Args:
        settings: `deployment` says how traffic moves, `entity` names the key.
        locations: `serving` says where to; servers are told `online_store` and `prediction_log`.
        servable: The model folder that `validate_serving` wrote.
        uri: Its URI, for a cluster to load it from.
        destination: JSON file to write when all traffic has moved.
        example_entity: One that is in the online store, for the request that people are shown; without it they are
            shown one with all features.

    Returns:
        Metadata: `url`, `model`, `version`, `previous_version`, `strategy`, `summary`.

    Raises:
        ContractViolation: the release was rolled back, or cannot begin.
    """
    candidate = read_candidate(servable, uri)
    place, deployment = serving_place(locations.serving), settings.deployment
    audited = record_location(locations)
    refuse_unapproved(audited, deployment.model, candidate.version)

    def release_there() -> Record:
        if isinstance(place, KServeServing):
            return release_to_kserve(deployment, locations, candidate, place)
        assert isinstance(place, VertexServing)
        return release_to_vertex(deployment, locations, candidate, place)

    with ended_by_exception():
        if isinstance(place, LocalServing):
            record = release_locally(deployment, locations, candidate, place)
        else:
            record = recorded_release(audited, deployment.model, candidate.version, release_there)
    if example_entity is not None:
        request = entity_request(settings.entity.key, example_entity)
    else:
        request = v2_request(candidate.inputs, [candidate.examples[0].features])
    record = record.model_copy(update={"example": InferenceRequest.model_validate(request)})
    record.write(destination)
    return record.metadata()


def read_candidate(servable: Path, uri: str) -> Candidate:
    """A servable model folder.

    Raises:
        ContractViolation: it was not tried, or its version cannot be a name.
    """
    model, trial = Model.read(servable), ServingTrial.read(servable)
    if not VERSION.match(model.version or ""):
        raise ContractViolation(
            f"{servable} cannot be released: its version is {model.version!r}; it needs one of letters, digits, dots "
            "and dashes. Take the output of validate_serving."
        )
    key = model.settings.get("entity", {}).get("key", "")
    return Candidate(
        servable, uri, str(model.version), model.inputs, trial.examples, key, model.threshold, model.key_type
    )


def release_locally(deployment: Deployment, locations: Locations, candidate: Candidate, place: LocalServing) -> Record:
    """Release to the servers of this machine; a version that serves already is only made sure of.

    A release that was cut off, or is paused, is taken back first.

    Raises:
        ContractViolation: as `release_to_target`.
    """
    from kfp_lifecycle.serving.release.local.operations import settle
    from kfp_lifecycle.serving.release.local.state import only_one
    from kfp_lifecycle.serving.release.local.traffic import LocalTraffic

    online_store = locations.online_store
    if online_store and "://" not in online_store:
        # Servers run in another folder than this step, where a relative path would lead somewhere else.
        online_store = str(Path(online_store).resolve())
    with only_one(place.folder):
        settle(place.folder, deployment.model)
        traffic = LocalTraffic(
            place.folder,
            deployment,
            candidate.version,
            online_store=online_store,
            prediction_log=str(Path(locations.prediction_log).resolve()),
        )
        if not traffic.is_champion(candidate.folder):
            traffic.copy_candidate(candidate.folder)
            return released_locally(traffic, deployment, candidate)
        traffic.ensure_running()
        endpoint = traffic.endpoint()
        return deployment_record(endpoint.url, endpoint.grpc, traffic, deployment, [], traffic.release.previous_version)


def resume_locally(folder: Path, model: str) -> Record:
    """Go on with a release that was cut off or paused, at its recorded stage and by its own settings.

    Raises:
        ContractViolation: there is none, or the candidate fails.
    """
    from kfp_lifecycle.serving.release.local.operations import unfinished
    from kfp_lifecycle.serving.release.local.servers import version_folder
    from kfp_lifecycle.serving.release.local.state import only_one
    from kfp_lifecycle.serving.release.local.traffic import LocalTraffic

    with ended_by_exception(), only_one(folder):
        change = unfinished(folder, model)
        refuse_unapproved(str(file_of(folder)), model, change.candidate)
        deployment = Deployment.model_validate(change.settings)
        place = version_folder(folder.resolve(), model, change.candidate)
        candidate = read_candidate(place, place.as_uri())
        traffic = LocalTraffic(folder, deployment, change.candidate, online_store="", prediction_log="")
        first = Stage(change.percent, change.mirror) if change.phase != "starting" else None
        return released_locally(traffic, deployment, candidate, first)


def take_locally(folder: Path, model: str) -> Record:
    """Give all traffic to the candidate of a release that was cut off or paused, as a person decided.

    Raises:
        ContractViolation: there is none, or its server does not come up.
    """
    from kfp_lifecycle.serving.release.local.operations import unfinished
    from kfp_lifecycle.serving.release.local.state import only_one
    from kfp_lifecycle.serving.release.local.traffic import LocalTraffic

    with only_one(folder):
        change = unfinished(folder, model)
        refuse_unapproved(str(file_of(folder)), model, change.candidate)
        overridden = "a person took it, without further judgement"
        open_record(str(file_of(folder))).append("overridden", model, change.candidate, overridden, {"why": change.why})
        deployment = Deployment.model_validate(change.settings)
        traffic = LocalTraffic(folder, deployment, change.candidate, online_store="", prediction_log="")
        traffic.start_candidate()
        traffic.shift(Stage(100))
        traffic.promote()
        traffic.note("promoted", deployment.strategy.value, overridden)
        endpoint = traffic.endpoint()
    return deployment_record(endpoint.url, endpoint.grpc, traffic, deployment, [], traffic.champion)


def released_locally(
    traffic: LocalTraffic, deployment: Deployment, candidate: Candidate, first: Stage | None = None
) -> Record:
    """A release from its first stage, or the one named, and its lines in the history."""
    strategy = deployment.strategy.value
    traffic.note("begun", strategy, why="" if first is None else f"resumed at {first.percent}%")
    try:
        steps = candidate.release(traffic, deployment, traffic.prediction_log, first)
    except Undecided as undecided:
        traffic.pause(str(undecided))
        traffic.note("paused", strategy, str(undecided), undecided.steps)
        raise
    except BaseException as error:
        why = str(error) or type(error).__name__
        traffic.note("rolled back", strategy, why, error.steps if isinstance(error, RolledBack) else [])
        raise
    traffic.note("promoted", strategy, "no stage showed it to be worse", steps)
    endpoint = traffic.endpoint()
    return deployment_record(endpoint.url, endpoint.grpc, traffic, deployment, steps, traffic.champion)


def release_to_kserve(
    deployment: Deployment, locations: Locations, candidate: Candidate, place: KServeServing
) -> Record:
    """Release to a KServe InferenceService; a version that serves already is only made sure of.

    Raises:
        ContractViolation: as `release_to_target`.
    """
    from kfp_lifecycle.serving.container import serving_container
    from kfp_lifecycle.serving.payload_logger import LoggedModel
    from kfp_lifecycle.serving.release.kserve.inference_service import InferenceServiceTraffic
    from kfp_lifecycle.serving.release.kserve.standard import StandardTraffic

    standard = serving_container().kserve.mode is Mode.standard
    begin = StandardTraffic if standard else InferenceServiceTraffic
    logged = LoggedModel(
        features=tuple(candidate.inputs),
        entity_key=candidate.entity_key,
        key_type=candidate.key_type,
        threshold=candidate.threshold,
    )
    traffic = begin(place.namespace, deployment, locations, candidate.version, candidate.uri, logged)
    if traffic.champion == candidate.version:
        steps, previous = [], traffic.keep_champion()
    else:
        steps, previous = candidate.release(traffic, deployment, locations.prediction_log), traffic.champion
    return deployment_record(traffic.url(), traffic.grpc(), traffic, deployment, steps, previous)


def release_to_vertex(
    deployment: Deployment, locations: Locations, candidate: Candidate, place: VertexServing
) -> Record:
    """Release to a Vertex AI endpoint; a version that serves already is only made sure of.

    Raises:
        ContractViolation: as `release_to_target`.
    """
    from kfp_lifecycle.serving.release.vertex.endpoint import VertexTraffic

    traffic = VertexTraffic(
        place.project, place.location, deployment, locations, candidate.version, candidate.uri, candidate.inputs
    )
    if traffic.champion == candidate.version:
        steps, previous = [], traffic.keep_champion()
    else:
        steps, previous = candidate.release(traffic, deployment, locations.prediction_log), traffic.champion
    return deployment_record(traffic.url(), "", traffic, deployment, steps, previous)


@contextlib.contextmanager
def ended_by_exception() -> Iterator[None]:
    """A request to end the process ends the block as an exception, so that traffic returns to the champion first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
