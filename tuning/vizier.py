"""Vertex AI Vizier: settings to try are asked of it, and results told, by its REST interface.

Google's client is not in the environment that learns: it would bring forty packages for five calls.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import google.auth
import requests
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession

from kfp_lifecycle.config.tuning import Choice, FloatRange, IntRange, Space, Tuning, active_values
from kfp_lifecycle.runtime.asking import RETRIED, ask_again
from kfp_lifecycle.runtime.contract import ContractViolation

METRIC = "roc_auc"
ALGORITHMS = {"default": "ALGORITHM_UNSPECIFIED", "random": "RANDOM_SEARCH", "grid": "GRID_SEARCH"}
# Seconds that an answer may take, that a suggestion may take, and between two looks for one.
TIMEOUT, PATIENCE, PAUSE = 30.0, 300.0, 1.0


class VizierStudy:
    """A study of Vizier, which is found again by its name."""

    def __init__(self, tuning: Tuning, name: str) -> None:
        """Find the study, or make it.

        Args:
            tuning: Search space, and where Vizier is.
            name: A digest of all that results depend on: what has the same is the same search.

        Raises:
            ContractViolation: Vizier cannot be asked.
        """
        where = tuning.vizier
        self._tuning = tuning
        self._endpoint = where.endpoint or f"https://{where.location}-aiplatform.googleapis.com"
        self._session = self._new_session()
        parent = f"projects/{where.project}/locations/{where.location}"
        label = f"lifecycle-{name}"
        there = self._ask("POST", f"{parent}/studies:lookup", {"displayName": label}, absent={})
        if there:
            print(f"Going on with the study {there['name']}.", flush=True)
        else:
            wanted = {"displayName": label, "studySpec": study_spec(tuning)}
            there = self._ask("POST", f"{parent}/studies", wanted)
            print(f"Vizier made the study {there['name']}.", flush=True)
        self.name = str(there["name"])
        self._trials: dict[int, str] = {}

    def suggest(self, number: int) -> dict[str, Any]:
        """Parameters to try; asked again for the same trial, before its result is told, the same ones.

        Args:
            number: The trial's.

        Raises:
            ContractViolation: Vizier does not answer, or suggests none.
        """
        asked = {"suggestionCount": 1, "clientId": f"trial-{number}"}
        operation = self._ask("POST", f"{self.name}/trials:suggest", asked)
        until = time.monotonic() + PATIENCE
        while not operation.get("done"):
            if time.monotonic() > until:
                raise ContractViolation(f"Vizier has suggested nothing in {PATIENCE:.0f} s. Resume the run later.")
            time.sleep(PAUSE)
            operation = self._ask("GET", operation["name"])
        if "error" in operation:
            raise ContractViolation(f"Vizier suggests nothing: {operation['error'].get('message', operation['error'])}")
        trials = operation.get("response", {}).get("trials", [])
        if not trials:
            raise ContractViolation(
                "Vizier suggests nothing more: a grid has been tried whole. Lower tuning.trials, or choose another "
                "tuning.vizier.algorithm."
            )
        self._trials[number] = str(trials[0]["name"])
        return parameters_of(trials[0], self._tuning.space)

    def tell(self, number: int, value: float | None, reason: str) -> None:
        """Tell a result.

        Args:
            number: The trial's.
            value: Mean ROC AUC of the folds that it came to; None where it failed.
            reason: Why it failed.
        """
        if number not in self._trials:
            # Suggested before this process began: the same question has the same answer.
            self.suggest(number)
        done: dict[str, Any] = {"trialInfeasible": True, "infeasibleReason": reason[:500]}
        if value is not None:
            done = {"finalMeasurement": {"metrics": [{"metricId": METRIC, "value": value}]}}
        self._ask("POST", f"{self._trials[number]}:complete", done)

    def end(self) -> None:
        """The search is done: remove the study, unless it is to be kept."""
        if not self._tuning.vizier.keep_study:
            self._ask("DELETE", self.name)

    def _new_session(self) -> requests.Session:
        if self._endpoint.startswith("http://"):
            # No token is sent to where others may read it.
            return requests.Session()
        try:
            credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
        except GoogleAuthError as error:
            raise ContractViolation(
                f"Vizier is to be asked, and this step has no account of Google Cloud ({error}). Log in by gcloud auth "
                "application-default login, or set tuning.engine to optuna."
            ) from error
        return AuthorizedSession(credentials)  # type: ignore[no-untyped-call]

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, absent: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Ask Vizier, again where it does not answer.

        Args:
            method: HTTP's.
            path: Below the version.
            body: What is sent.
            absent: What it is when what is named is not there; by default that is an error.
        """
        url = f"{self._endpoint}/v1/{quote(path, safe='/:')}"

        def once() -> requests.Response:
            answer = self._session.request(method, url, json=body, timeout=TIMEOUT)
            if answer.status_code in RETRIED:
                raise requests.HTTPError(_said(answer), response=answer)
            return answer

        try:
            answer = ask_again(once, lambda error: isinstance(error, requests.RequestException | GoogleAuthError))
        except (requests.RequestException, GoogleAuthError) as error:
            raise ContractViolation(
                f"Vizier at {self._endpoint} does not answer: {error}. Resume the run later, or set tuning.engine to "
                "optuna."
            ) from error
        if answer.status_code == 404 and absent is not None:
            return absent
        if not answer.ok:
            raise ContractViolation(f"Vizier refuses {path} ({answer.status_code}): {_said(answer)}{_remedy(answer)}")
        found: dict[str, Any] = answer.json()
        return found


def study_spec(tuning: Tuning) -> dict[str, Any]:
    """The space as Vizier's `StudySpec`. Conditions are not in it: what does not hold is passed over, as with Katib."""
    parameters = []
    for name, dimension in tuning.space.items():
        if isinstance(dimension, Choice):
            values = {"categoricalValueSpec": {"values": [str(choice) for choice in dimension.choices]}}
            parameters.append({"parameterId": name, **values})
            continue
        kind = "doubleValueSpec" if isinstance(dimension, FloatRange) else "integerValueSpec"
        scale = "UNIT_LOG_SCALE" if dimension.log else "UNIT_LINEAR_SCALE"
        bounds = {"minValue": dimension.low, "maxValue": dimension.high}
        parameters.append({"parameterId": name, kind: bounds, "scaleType": scale})
    return {
        "metrics": [{"metricId": METRIC, "goal": "MAXIMIZE"}],
        "parameters": parameters,
        "algorithm": ALGORITHMS[tuning.vizier.algorithm],
    }


def parameters_of(trial: dict[str, Any], space: Space) -> dict[str, Any]:
    """A trial's parameters: those whose condition holds, each in its bounds and of its type.

    Raises:
        ContractViolation: it lacks one, or has a value that the space has not.
    """
    given = {item["parameterId"]: item["value"] for item in trial.get("parameters", [])}
    values: dict[str, Any] = {}
    for name, dimension in space.items():
        if name not in given:
            raise ContractViolation(f"Vizier suggests no {name}: its study is of another space. Delete it.")
        try:
            value = dimension.parse(str(given[name]))
        except ValueError as error:
            raise ContractViolation(f"Vizier suggests {name} = {given[name]}, which the space has not") from error
        if isinstance(dimension, FloatRange | IntRange):
            # A logarithm and back may end a hair outside.
            value = min(max(value, dimension.low), dimension.high)  # type: ignore[type-var]
        values[name] = value
    return active_values(space, values)


def _said(answer: requests.Response) -> str:
    try:
        return " ".join(str(answer.json()["error"]["message"]).split())[:500]
    except (ValueError, KeyError, TypeError):
        return str(answer.reason)


def _remedy(answer: requests.Response) -> str:
    if answer.status_code == 403:
        return ". Let the account of the steps ask it: roles/aiplatform.user in tuning.vizier.project"
    if answer.status_code == 401:
        return ". The account of this step is not known there"
    return ""
