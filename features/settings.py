"""Settings of feature definitions: what a model folder keeps of the configuration to compute its features again.

It imports no Feast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.settings import given_settings
from kfp_lifecycle.runtime.contract import ContractViolation

DEFINITION_SETTINGS = ("name", "entity", "features", "label", "training.weight")
"""What `load_definitions` and a model's server read of a configuration."""
FEATURE_REPOSITORY = "feature_repo"
"""Name of the folder with the definitions, in a training set and in a model folder."""
LABEL_QUERY = "label_query.sql"
"""Name of the SQL file that labelled a training set, in it and in the folder of a model that was trained on it."""


def definition_settings(values: Mapping[str, Any]) -> Configuration:
    """The `settings` that `model.json` keeps, typed.

    Raises:
        ContractViolation: a section is missing or wrong.
    """
    try:
        return given_settings(values, DEFINITION_SETTINGS, "model.json")
    except ConfigurationError as error:
        raise ContractViolation(str(error)) from error
