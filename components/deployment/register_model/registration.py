"""Registration of an approved model: a version in MLflow's registry that can be served from anywhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from kfp_lifecycle.artifacts.verdict import Verdict
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.gate import Approval
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.environments import locks
from kfp_lifecycle.modelling.model_folder import ModelFolder
from kfp_lifecycle.registry.approval import record_candidate
from kfp_lifecycle.registry.versions import CANDIDATE, create_version, refuse_overtaken, set_alias, store_files
from kfp_lifecycle.runtime.closure import copy_modules
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import complete_folder

SERVER = "kfp_lifecycle.serving.server.server"
# What the server runs on, in the folder of its code: whoever starts it where there is no image installs this.
LOCK, LOCK_FILE = Path(locks.HERE) / "serving.txt", "requirements.txt"


def register(
    settings: Configuration, locations: Locations, approved: Path, verdict_file: Path, destination: Path
) -> dict[str, Any]:
    """Register an approved model and write the `registered_model` artifact.

    Args:
        settings: `deployment.model` is the name in the registry, `gate.approval` whether a person has to let it be
            released.
        locations: `tracking_uri` says where the registry is.
        approved: What `decide_promotion` approved.
        verdict_file: Its verdict.
        destination: Folder to write: the model, the server's `code/` with its lock, `version` in `model.json`.

    Returns:
        Metadata: `model`, `version`, `run_id`, `waits` (whether a person has to approve it), `summary`.

    Raises:
        ContractViolation: the model is not approved, another version became the champion since it was judged, or the
            registry cannot be reached. Nothing is left at `destination` then.
    """
    verdict = Verdict.read(verdict_file)
    if verdict.decision != "approved":
        raise ContractViolation(
            f"{verdict.model} was {verdict.decision} and cannot be registered. {verdict.sentences[0]}"
        )
    model = ModelFolder(approved)
    run_id = model.description.run_id
    if verdict.run_id != run_id:
        raise ContractViolation(
            f"The verdict is about the model of run {verdict.run_id}, but the folder holds that of run {run_id}. "
            "Register the model that was approved."
        )
    name, tracking_uri = settings.deployment.model, locations.tracking_uri
    refuse_overtaken(tracking_uri, name, run_id, verdict.champion_version)
    tags = {
        "decision": verdict.decision,
        "verdict": " ".join(verdict.sentences)[:5000],
        "feature_version": model.description.feature_version,
        "data_version": model.description.origin.data.version,
        "run_id": run_id,
    }
    with complete_folder(destination) as folder:
        # What is served holds no pickle.
        shutil.copytree(approved, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.joblib"))
        copy_modules([SERVER], folder / "code")
        shutil.copyfile(LOCK, folder / "code" / LOCK_FILE)
        # A version is made when its files are there, and named last: a server that dies leaves nothing to be served.
        store_files(tracking_uri, run_id, folder)
        version = create_version(tracking_uri, name, run_id, tags)
        described = model.description.model_copy(update={"version": version}).write(folder)
        store_files(tracking_uri, run_id, described)
        set_alias(tracking_uri, name, version, CANDIDATE)
        waits = settings.gate.approval is Approval.required
        waits = record_candidate(tracking_uri, locations.audit_record, name, version, verdict, asked=waits)
    summary = f"version {version}, waits for approval" if waits else f"version {version}"
    return {"model": name, "version": version, "run_id": run_id, "waits": waits, "summary": summary}
