"""Vizier: studies, the trials that it suggests (at random, inside the study's space), and their results."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from google.cloud import aiplatform_v1
from google.protobuf import json_format

from tests.control_planes.kubeflow.control_plane import ControlPlane
from tests.control_planes.kubeflow.errors import Code
from tests.control_planes.kubeflow.state import Document
from tests.control_planes.vertex.errors import GoogleError, invalid, not_found

KIND = "experiments"
ENDED = ("SUCCEEDED", "INFEASIBLE")


class Studies:
    """The service of studies."""

    def __init__(self, plane: ControlPlane) -> None:
        self._state = plane.state
        self._random = random.Random(1)

    def create(self, parent: str, body: Mapping[str, Any]) -> Document:
        """A new study; its display name is its own."""
        message = aiplatform_v1.Study.pb(aiplatform_v1.Study())
        written = _written(message, body)
        if not message.display_name or not message.study_spec.metrics or not message.study_spec.parameters:
            raise invalid("display_name, metrics and parameters are required")
        for parameter in written["studySpec"]["parameters"]:
            for kind in ("doubleValueSpec", "integerValueSpec"):
                if kind in parameter and float(parameter[kind].get("minValue", 0)) >= float(
                    parameter[kind]["maxValue"]
                ):
                    raise invalid(f"{parameter['parameterId']}: min_value must be below max_value")
        if any(item["display"] == message.display_name for item in self._all(parent)):
            raise GoogleError(Code.already_exists, f"Study {message.display_name} already exists")
        identity = str(self._random.randrange(10**11, 10**12))
        study = {"id": f"study-{identity}", "parent": parent, "display": message.display_name, "trials": []}
        study["study"] = {**written, "name": f"{parent}/studies/{identity}", "state": "ACTIVE"}
        self._state.save(KIND, study)
        return dict(study["study"])

    def lookup(self, parent: str, body: Mapping[str, Any]) -> Document:
        """The study of a display name."""
        for study in self._all(parent):
            if study["display"] == body.get("displayName"):
                return dict(study["study"])
        raise not_found("Study", str(body.get("displayName")))

    def delete(self, identity: str) -> Document:
        """Forget a study and its trials."""
        self._find(identity)
        self._state.delete(KIND, f"study-{identity}")
        return {}

    def suggest(self, parent: str, identity: str, body: Mapping[str, Any]) -> Document:
        """Trials to try: those that the client has and has not ended, else new ones."""
        study = self._find(identity)
        client, count = str(body.get("clientId", "")), int(body.get("suggestionCount", 0))
        if not client or count < 1:
            raise invalid("client_id and suggestion_count are required")
        with self._state.lock:
            active = [trial for trial in study["trials"] if trial["clientId"] == client and trial["state"] == "ACTIVE"]
            while len(active) < count:
                number = str(len(study["trials"]) + 1)
                trial = {
                    "name": f"{study['study']['name']}/trials/{number}",
                    "id": number,
                    "state": "ACTIVE",
                    "clientId": client,
                    "parameters": [self._value(each) for each in study["study"]["studySpec"]["parameters"]],
                }
                study["trials"].append(trial)
                active.append(trial)
            self._state.save(KIND, study)
        response = {"@type": "type.googleapis.com/google.cloud.aiplatform.v1.SuggestTrialsResponse"}
        return {"name": f"{parent}/operations/1", "done": True, "response": {**response, "trials": active[:count]}}

    def complete(self, identity: str, number: str, body: Mapping[str, Any]) -> Document:
        """The end of a trial."""
        message = aiplatform_v1.CompleteTrialRequest.pb(aiplatform_v1.CompleteTrialRequest())
        written = _written(message, {key: value for key, value in body.items() if key != "name"})
        study = self._find(identity)
        trial = next((each for each in study["trials"] if each["id"] == number), None)
        if trial is None:
            raise not_found("Trial", number)
        if trial["state"] in ENDED:
            raise GoogleError(Code.failed_precondition, f"Trial {number} is {trial['state']}.")
        metrics = {item["metricId"] for item in study["study"]["studySpec"]["metrics"]}
        if written.get("trialInfeasible"):
            trial |= {"state": "INFEASIBLE", "infeasibleReason": written.get("infeasibleReason", "")}
        elif {item["metricId"] for item in written.get("finalMeasurement", {}).get("metrics", [])} == metrics:
            trial |= {"state": "SUCCEEDED", "finalMeasurement": written["finalMeasurement"]}
        else:
            raise invalid("final_measurement has to have the study's metrics")
        self._state.save(KIND, study)
        return dict(trial)

    def trials(self, identity: str) -> Document:
        """All trials of a study."""
        return {"trials": self._find(identity)["trials"]}

    def listed(self, parent: str) -> Document:
        """All studies of a location."""
        return {"studies": [item["study"] for item in self._all(parent)]}

    def _value(self, parameter: Document) -> Document:
        if "categoricalValueSpec" in parameter:
            return {
                "parameterId": parameter["parameterId"],
                "value": self._random.choice(parameter["categoricalValueSpec"]["values"]),
            }
        whole = "integerValueSpec" in parameter
        bounds = parameter["integerValueSpec" if whole else "doubleValueSpec"]
        low, high = float(bounds.get("minValue", 0)), float(bounds["maxValue"])
        if parameter.get("scaleType") == "UNIT_LOG_SCALE":
            drawn = math.exp(self._random.uniform(math.log(low), math.log(high)))
        else:
            drawn = self._random.uniform(low, high)
        # Vizier gives whole numbers as numbers of JSON, which are doubles.
        return {"parameterId": parameter["parameterId"], "value": float(round(drawn)) if whole else drawn}

    def _all(self, parent: str) -> list[Document]:
        there = [item for item in self._state.all(KIND) if item["id"].startswith("study-")]
        return [item for item in there if item["parent"] == parent]

    def _find(self, identity: str) -> Document:
        found = self._state.get(KIND, f"study-{identity}")
        if found is None:
            raise not_found("Study", identity)
        return found


def _written(message: Any, body: Mapping[str, Any]) -> Document:
    try:
        json_format.ParseDict(dict(body), message)
    except json_format.ParseError as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error
    written: Document = json_format.MessageToDict(message)
    return written
