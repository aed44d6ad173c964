"""The steps of features as their components run them on a test's project: with the settings and locations that each
declares, and no others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.settings import settings_of
from kfp_lifecycle.features.definitions import Definitions, load_definitions
from kfp_lifecycle.features.settings import DEFINITION_SETTINGS, definition_settings
from kfp_lifecycle.runtime.component import LifecycleComponent
from tests.projects import Project, read_project

# As in a step: kfp then imports what runs one, and not what compiles one, whose libraries are not there.
os.environ.setdefault("_KFP_RUNTIME", "true")

if TYPE_CHECKING:
    from kfp_lifecycle.serving.server.online_features import OnlineFeatures


def build(project: Path, validated: Path, training_set: Path, **parameters: str) -> Any:
    """`build_training_set`, with parameters of the run."""
    from kfp_lifecycle.components.features.build_training_set import training_set as logic
    from kfp_lifecycle.components.features.build_training_set.component import build_training_set

    read = read_project(project)
    settings, locations = given_to(build_training_set, read)
    given = settings, locations, read.feature_repo, read.label_query, validated, training_set
    return logic.build(*given, **parameters)


def materialize(project: Path, validated: Path) -> Any:
    """`materialize_features`."""
    from kfp_lifecycle.components.features.materialize_features import materialization as logic
    from kfp_lifecycle.components.features.materialize_features.component import materialize_features

    read = read_project(project)
    settings, locations = given_to(materialize_features, read)
    return logic.materialize(settings, locations, read.feature_repo, validated)


def score_batch(project: Path, validated: Path, scores: Path) -> Any:
    """`score_batch`."""
    from kfp_lifecycle.components.scoring.score_batch import batch as logic
    from kfp_lifecycle.components.scoring.score_batch import component

    read = read_project(project)
    settings, locations = given_to(component.score_batch, read)
    return logic.score_batch(settings, locations, read.feature_repo, read.label_query, validated, scores)


def definitions_of(project: Path) -> Definitions:
    """The project's feature definitions, from the settings that a model keeps."""
    read = read_project(project)
    return load_definitions(read.feature_repo, kept_by_a_model(read.settings))


def kept_by_a_model(settings: Configuration) -> Configuration:
    """What `model.json` keeps of a configuration."""
    return definition_settings(settings_of(settings, DEFINITION_SETTINGS))


def given_to(component: LifecycleComponent, project: Project) -> tuple[Configuration, Locations]:
    """The settings and locations that a component's step is given."""
    named = {name: getattr(project.locations, name) for name in component.locations}
    return component.given(settings_of(project.settings, component.reads)), Locations.partial(named)


def served(project: Path, online_store: str) -> OnlineFeatures:
    """The features that a server of the project's model answers with."""
    from kfp_lifecycle.features.online.servers import READERS
    from kfp_lifecycle.serving.server.online_features import OnlineFeatures

    read = read_project(project)
    return OnlineFeatures(read.feature_repo, kept_by_a_model(read.settings), online_store, READERS)
