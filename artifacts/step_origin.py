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
    code: str = ""
    """Where its code is had again: its content digest, or the URI of the archive that held it."""

    @classmethod
    def told(cls, settings: Mapping[str, Any]) -> Self:
        """What the step that runs here was told."""
        return cls(settings=dict(settings), code=os.environ.get(CODE_VARIABLE, ""))
