"""Step origin: what a step was told, so that it can be run again as it ran."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field

from kfp_lifecycle.artifacts.document import Part
from kfp_lifecycle.runtime.code_version import CODE_VARIABLE


class StepOrigin(Part):
    """The settings and the code of one step."""

    settings: dict[str, Any] = Field(default={})
    """Its parameter `settings`."""
    parameters: dict[str, str] = Field(default={})
    """Its other parameters, where they are not the usual ones."""
    code: str = ""
    """Where its code is had again: its content digest, or the URI of the archive that held it."""

    @classmethod
    def told(cls, settings: Mapping[str, Any], **parameters: str) -> Self:
        """What the step that runs here was told."""
        given = {name: value for name, value in parameters.items() if value}
        return cls(settings=dict(settings), parameters=given, code=os.environ.get(CODE_VARIABLE, ""))
