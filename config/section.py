"""What every part of a configuration is made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
# A name that also becomes a Kubernetes object and a URL segment.
ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,51}[a-z0-9])?$")]
RelativePath = Annotated[str, StringConstraints(pattern=r"^(?!/)(?!.*(?:^|/)\.\.(?:/|$))[^\\\0]+$")]
Probability = Annotated[float, Field(ge=0, le=1)]


def _from_text(value: Any) -> Any:
    """`"1.0"` as the number 1.0: see `FreeValue`."""
    return float(value) if isinstance(value, str) and _WHOLE_FLOAT.fullmatch(value) else value


def _to_text(value: Any) -> Any:
    return repr(value) if isinstance(value, float) and value.is_integer() else value


_WHOLE_FLOAT = re.compile(r"[+-]?[0-9]+\.0")
# Any value, in a form that survives a KFP struct, which knows no difference between 1 and 1.0: scikit-learn does
# (`max_features`: one feature, or all of them). A float that is whole is written there as text.
FREE = (BeforeValidator(_from_text), PlainSerializer(_to_text, when_used="json"))
FreeValue = Annotated[Any, *FREE]


class Section(BaseModel):
    """A part of the configuration. Unknown keys are errors, so that a typing mistake never becomes a default."""

    # A refused value is not repeated in tracebacks: it may be a password.
    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, frozen=True, regex_engine="python-re", hide_input_in_errors=True
    )

    @classmethod
    def partial(cls, values: Mapping[str, Any]) -> Self:
        """A section that holds some of its keys, already checked. Reading another raises AttributeError."""
        part = cls.model_construct()
        object.__setattr__(part, "__dict__", dict(values))
        return part

    def __getattr__(self, name: str) -> Any:
        if name in type(self).model_fields:
            raise AttributeError(
                f"{type(self).__name__.lower()}.{name} was not given to this step: name it in what the component reads"
            )
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
