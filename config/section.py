"""What every part of a configuration is made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints

# What each pattern of this configuration asks for, in words: nobody reads a regular expression in an error.
WORDS: dict[str, str] = {}


def text(pattern: str, words: str) -> StringConstraints:
    """A rule for text: a regular expression, and what it asks for in words."""
    WORDS[pattern] = words
    return StringConstraints(pattern=pattern)


Name = Annotated[
    str,
    text(
        r"^[a-z][a-z0-9_]{0,62}$",
        "a name is of small letters, digits and underscores, with a letter first, such as user_id",
    ),
]
# A name that also becomes a Kubernetes object and a URL segment.
ModelName = Annotated[
    str,
    text(
        r"^[a-z]([a-z0-9-]{0,51}[a-z0-9])?$",
        "a model's name is of small letters, digits and hyphens, at most 53, with a letter first and no hyphen last",
    ),
]
FeatureName = Annotated[str, text(r"^[^:]+:[^:]+$", "a feature is named VIEW:FEATURE, such as profile:region")]
RelativePath = Annotated[
    str,
    text(
        r"^(?!/)(?!.*(?:^|/)\.\.(?:/|$))[^\\\0]+$",
        "a path starts in the project's folder and stays there: no slash in front, no .. and no backslash",
    ),
]
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

    # A refused value is not repeated in tracebacks: it may be a password. Each process imports all sections and reads
    # few of them: a validator is built when it is first asked.
    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        frozen=True,
        regex_engine="python-re",
        hide_input_in_errors=True,
        defer_build=True,
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
