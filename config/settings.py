"""Settings of a step: the sections of a configuration that one component declares, as one typed parameter."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo

from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.problems import describe_error
from kfp_lifecycle.config.section import Section


class _OneKey(Section):
    """What a single section or key is checked by. It has no text of its own that pydantic would have to look for."""

    model_config = ConfigDict(use_attribute_docstrings=False)


def settings_of(configuration: Configuration, reads: Iterable[str]) -> dict[str, Any]:
    """The declared part of a configuration, as the value of a component's `settings` parameter.

    What has its default is left out: the same meaning is the same value, however it was written.

    Args:
        configuration: The whole configuration.
        reads: Sections (`gate`), or single keys of one (`deployment.model`).
    """
    whole = configuration.model_dump(mode="json", exclude_defaults=True)
    values: dict[str, Any] = {}
    for name in sorted(reads):
        section, _, key = name.partition(".")
        if section not in whole:
            continue
        if not key:
            values[section] = whole[section]
        elif key in whole[section]:
            values.setdefault(section, {})[key] = whole[section][key]
    return values


def given_settings(values: Mapping[str, Any], reads: Iterable[str], step: str) -> Configuration:
    """A step's settings, typed: a configuration that holds the sections which the step declares and nothing else.

    Args:
        values: The `settings` parameter. A section or key that has a default may be left out.
        reads: What the component declares.
        step: The component's name, for messages.

    Returns:
        Reading any other section of it raises AttributeError, which names the section.

    Raises:
        ConfigurationError: a section is unknown to the step, missing or wrong; the message names key and rule.
    """
    declared: dict[str, list[str]] = {}
    for name in sorted(reads):
        section, _, key = name.partition(".")
        declared.setdefault(section, []).extend([key] if key else [])
    unknown = sorted(set(values) - set(declared))
    if unknown:
        raise ConfigurationError(
            f"the settings of {step} hold {', '.join(unknown)}, which it does not read; it reads "
            f"{', '.join(sorted(declared))}"
        )
    found: dict[str, Any] = {}
    problems: list[str] = []
    for section, keys in declared.items():
        field = Configuration.model_fields[section]
        try:
            found[section] = _part(field, keys, values.get(section)) if keys else _value(Configuration, section, values)
        except ValidationError as error:
            within = (section,) if keys else ()
            problems += [describe_error({**detail, "loc": (*within, *detail["loc"])}) for detail in error.errors()]
    if problems:
        raise ConfigurationError(
            f"the settings of {step} cannot be used:\n" + "\n".join(f"  - {line}" for line in problems)
        )
    return Configuration.partial(found)


def _value(section: type[Section], name: str, values: Mapping[str, Any]) -> Any:
    """A key of a section, or a section of the whole configuration, checked as in the configuration's file."""
    field = section.model_fields[name]
    if name not in values and not field.is_required():
        return field.get_default(call_default_factory=True)
    checked = _checker(section, name).model_validate({name: values[name]} if name in values else {})
    return getattr(checked, name)


@functools.cache
def _checker(section: type[Section], name: str) -> type[_OneKey]:
    """A section of one key alone, with the key's type and rules."""
    field = section.model_fields[name]
    kind: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    key: Any = {name: (kind, ...)}
    return create_model("Part", __base__=_OneKey, **key)


def _part(field: FieldInfo, keys: list[str], values: Any) -> Section:
    """Some keys of a section; the others are not there."""
    model = field.annotation
    if not (isinstance(model, type) and issubclass(model, Section)):
        raise TypeError(f"{keys} are no keys of a section")
    given = values if isinstance(values, Mapping) else {}
    return model.partial({key: _value(model, key, given) for key in keys})
