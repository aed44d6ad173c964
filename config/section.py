"""What every part of a configuration is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
# A name that also becomes a Kubernetes object and a URL segment.
ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,51}[a-z0-9])?$")]
RelativePath = Annotated[str, StringConstraints(pattern=r"^(?!/)(?!.*(?:^|/)\.\.(?:/|$))[^\\\0]+$")]
Probability = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of the configuration. Unknown keys are errors, so that a typing mistake never becomes a default."""

    # A refused value is not repeated in tracebacks: it may be a password.
    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, frozen=True, regex_engine="python-re", hide_input_in_errors=True
    )
