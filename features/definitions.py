"""Feature definitions of a Feast repository: read, checked once, used in training and in serving."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from feast import Entity, FeatureService, FeatureView, FileSource
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.types import Bool, FeastType, Float32, Float64, Int32, Int64, String, UnixTimestamp

from kfp_lifecycle.artifacts.drift import SCORE
from kfp_lifecycle.artifacts.feature import Type
from kfp_lifecycle.artifacts.training_set import GROUP
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.runtime.contract import ContractViolation

FEATURES_FILE = "features.py"
TIMESTAMP = "event_timestamp"
REQUEST_TIME = "request_time"

# How a Python function learns the present, or leaves it to chance.
CLOCKS = {"now", "utcnow", "today"}
CLOCK_MODULES = {"time", "random", "secrets", "uuid", "numpy.random"}

# What a view's SQL may return and how DuckDB calls it. UnixTimestamp serves on-demand features only.
DUCKDB_TYPES: dict[FeastType, str] = {
    Int32: "INTEGER",
    Int64: "BIGINT",
    Float32: "FLOAT",
    Float64: "DOUBLE",
    Bool: "BOOLEAN",
    String: "VARCHAR",
    UnixTimestamp: "TIMESTAMPTZ",
}

MODEL_TYPES: dict[FeastType, Type] = {
    Int32: "numeric",
    Int64: "numeric",
    Float32: "numeric",
    Float64: "numeric",
    Bool: "numeric",
    String: "categorical",
}


@dataclass(frozen=True)
class ViewFeature:
    """One feature: where it is defined and what a model takes it for."""

    view: str
    name: str
    type: Type


@dataclass(frozen=True)
class Definitions:
    """The feature repository of a project."""

    folder: Path
    key: str
    """The entity's key column."""
    key_type: str
    """Its DuckDB type."""
    entity: Entity
    views: Mapping[str, FeatureView]
    """By name; each is computed by `<name>.sql`."""
    on_demand: Mapping[str, OnDemandFeatureView]
    on_demand_inputs: Mapping[str, tuple[str, ...]]
    """Names of what each on-demand function gets: stored features, and `request_time` where it asks for it."""
    service: FeatureService
    features: tuple[ViewFeature, ...]
    """The features of the service: what a model is trained on and served with, in this order."""
    sensitive: tuple[ViewFeature, ...]
    weight: ViewFeature | None
    """What a training row counts."""
    freshness: timedelta
    """A stored value older than this is missing."""
    version: str
    """Digest of the definitions: two repositories of one version compute the same features."""

    @property
    def joined(self) -> list[ViewFeature]:
        """Every feature that a training set holds: the model's inputs first, each once."""
        return list(dict.fromkeys((*self.features, *self.sensitive, *([self.weight] if self.weight else []))))

    @functools.cached_property
    def _rules(self) -> dict[str, dict[str, tuple[FeastType, Callable[[Any], bool]]]]:
        """By on-demand view and feature its type, and whether a value is of it."""
        return {
            name: {field.name: (field.dtype, TYPE_RULES[field.dtype]) for field in view.features}
            for name, view in self.on_demand.items()
        }

    def sql_file(self, view: str) -> Path:
        """Where a view's SQL is."""
        return self.folder / f"{view}.sql"

    def sources(self, features: Iterable[ViewFeature]) -> list[str]:
        """The stored values (`view:feature`) that these features are, or are computed from."""
        references: dict[str, None] = {}
        for feature in features:
            if feature.view in self.views:
                references[f"{feature.view}:{feature.name}"] = None
            else:
                for name, projection in self.on_demand[feature.view].source_feature_view_projections.items():
                    references |= {f"{name}:{field.name}": None for field in projection.features}
        return list(references)

    def views_of(self, features: Iterable[ViewFeature]) -> list[str]:
        """The views that hold what these features are, or are computed from."""
        return list(dict.fromkeys(reference.partition(":")[0] for reference in self.sources(features)))

    def on_demand_values(
        self, features: Iterable[ViewFeature], stored: Mapping[str, Sequence[Any]]
    ) -> dict[str, list[Any]]:
        """Compute the on-demand features among `features`, by the functions of `features.py` themselves.

        Feast would run a copy of each function from its registry; running the original keeps pickled code out of the
        server, and one code path for training and serving.

        Args:
            features: Which features are wanted; those of plain views are left out.
            stored: Columns of equal length: the stored features by name, None where missing, times with a zone; and
                `request_time`.

        Returns:
            A column for each on-demand feature, None where missing or not a number.

        Raises:
            ContractViolation: a function failed, or did not return one value of the feature's type for each row.
        """
        rows = len(stored[REQUEST_TIME])
        computed: dict[str, list[Any]] = {}
        wanted: dict[str, list[str]] = {}
        for feature in features:
            if feature.view in self.on_demand:
                wanted.setdefault(feature.view, []).append(feature.name)
        for name, of_view in wanted.items():
            where = f"{FEATURES_FILE}: the on-demand view {name}"
            try:
                result = _function(self.on_demand[name])(
                    {column: list(stored[column]) for column in self.on_demand_inputs[name]}
                )
            except Exception as error:
                raise ContractViolation(
                    f"{where} failed: {type(error).__name__}: {error}. Its function gets a list for each input, with "
                    "None where a value is missing, and returns a list for each feature."
                ) from error
            for column in of_view:
                values = result.get(column)
                if not isinstance(values, list) or len(values) != rows:
                    raise ContractViolation(
                        f"{where} must return a list of {rows} values for {column}, one for each row; "
                        f"it returned {values!r:.60}."
                    )
                known = [None if _is_nan(value) else value for value in values]
                feast_type, is_of = self._rules[name][column]
                for value in known:
                    if value is not None and not is_of(value):
                        raise ContractViolation(
                            f"{where} returned {value!r:.60} for {column}, which is no {feast_type}: return a "
                            "value of the type that its schema gives it, or None where it is missing."
                        )
                computed[column] = known
        return computed


def load_definitions(feature_repo: Path, settings: Configuration) -> Definitions:
    """Read and check the feature definitions of a Feast repository.

    Args:
        feature_repo: The folder of the definitions: `features.py` and the views' SQL.
        settings: DEFINITION_SETTINGS of the configuration.

    Raises:
        ContractViolation: the repository cannot be read, or does not fit the configuration; the message names the file.
    """
    configuration, folder = settings, feature_repo
    if not (folder / FEATURES_FILE).is_file():
        raise ContractViolation(
            f"{folder} has no {FEATURES_FILE}. Put the Feast definitions there, or set features.repository."
        )
    version = feature_version(folder, Path(configuration.label.query).name)
    _refuse_numpy_clocks(folder / FEATURES_FILE)
    defined = _run(folder / FEATURES_FILE, version)
    views = {item.name: item for item in defined if isinstance(item, FeatureView)}
    on_demand = {item.name: item for item in defined if isinstance(item, OnDemandFeatureView)}
    services = {item.name: item for item in defined if isinstance(item, FeatureService)}
    entity = _entity([item for item in defined if isinstance(item, Entity)], configuration)
    key, key_type = configuration.entity.key, _key_type(entity, views)
    for view in views.values():
        _check_view(view, folder, entity, key)
        view.ttl = timedelta(days=configuration.features.freshness_days)
    for on_demand_view in on_demand.values():
        _check_on_demand(on_demand_view, views)

    service = services.get(configuration.features.service)
    if service is None:
        raise ContractViolation(
            f"{FEATURES_FILE} defines no feature service {configuration.features.service}, which features.service "
            f"names; it defines {_listed(services)}."
        )
    features = tuple(
        _feature(projection.name, field.name, {**views, **on_demand}, f"The feature service {service.name}")
        for projection in service.feature_view_projections
        for field in projection.features
    )
    sensitive = tuple(
        _feature(view, name, {**views, **on_demand}, "features.sensitive")
        for view, _, name in (reference.partition(":") for reference in configuration.features.sensitive)
    )
    weight = _weight(configuration.training.weight, features, {**views, **on_demand})
    definitions = Definitions(
        folder=folder,
        key=key,
        key_type=key_type,
        entity=entity,
        views=views,
        on_demand=on_demand,
        on_demand_inputs={name: _inputs(view) for name, view in on_demand.items()},
        service=service,
        features=features,
        sensitive=sensitive,
        weight=weight,
        freshness=timedelta(days=configuration.features.freshness_days),
        version=version,
    )
    _check_names(definitions, configuration)
    return definitions


def copy_definitions(feature_repo: Path, destination: Path) -> None:
    """Copy the definitions, without what Python left among them."""
    shutil.copytree(feature_repo, destination, ignore=shutil.ignore_patterns("__pycache__"))


def feature_version(folder: Path, label_query: str) -> str:
    """Digest (12 hexadecimal digits of SHA-256) of what computes the features: every Python and SQL file of the
    repository but the label's."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (".py", ".sql") and file.name != label_query:
            digest.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _run(file: Path, version: str) -> list[Any]:
    # A name of its own for each version, so that two repositories in one process do not take each other's place.
    specification = importlib.util.spec_from_file_location(f"feature_repository_{version}", file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise ContractViolation(f"{file} cannot be used: {type(error).__name__}: {error}") from error
    return list(vars(module).values())


def _entity(entities: Sequence[Entity], configuration: Configuration) -> Entity:
    name, key = configuration.entity.name, configuration.entity.key
    found = [entity for entity in entities if entity.name == name]
    if not found:
        raise ContractViolation(
            f"{FEATURES_FILE} defines no entity {name}, which entity.name asks for; "
            f"it defines {_listed(entity.name for entity in entities)}."
        )
    if found[0].join_key != key:
        raise ContractViolation(
            f"{FEATURES_FILE}: the entity {name} joins on {found[0].join_key}, but entity.key is {key}. "
            "Make them the same."
        )
    return found[0]


def _key_type(entity: Entity, views: Mapping[str, FeatureView]) -> str:
    types = {column.dtype for view in views.values() for column in view.entity_columns}
    if len(types) != 1 or not types <= {Int32, Int64, String}:
        raise ContractViolation(
            f"{FEATURES_FILE}: every view has to give the key {entity.join_key} the same type, Int64, Int32 or String, "
            f"as a field of its schema; found {_listed(map(str, types))}."
        )
    return DUCKDB_TYPES[types.pop()]


def _check_view(view: FeatureView, folder: Path, entity: Entity, key: str) -> None:
    if view.entities != [entity.name]:
        raise ContractViolation(
            f"{FEATURES_FILE}: the view {view.name} is about {_listed(view.entities)}; all views of a project are "
            f"about its one entity, {entity.name}."
        )
    source = view.batch_source
    path = source.path if isinstance(source, FileSource) else None
    if source is None or path != f"{view.name}.parquet" or source.timestamp_field != TIMESTAMP:
        raise ContractViolation(
            f"{FEATURES_FILE}: the source of the view {view.name} has to be "
            f'FileSource(path="{view.name}.parquet", timestamp_field="{TIMESTAMP}"): '
            "the file is filled from the view's SQL."
        )
    if not (folder / f"{view.name}.sql").is_file():
        raise ContractViolation(
            f"The view {view.name} has no SQL: write {folder / f'{view.name}.sql'}, a query that gives {key} and "
            f"{_listed(field.name for field in view.features)}."
        )
    for field in view.features:
        if field.dtype not in DUCKDB_TYPES:
            raise ContractViolation(
                f"{FEATURES_FILE}: {view.name}:{field.name} is of type {field.dtype}; a view may hold "
                f"{_listed(map(str, DUCKDB_TYPES))}."
            )


def _check_on_demand(view: OnDemandFeatureView, views: Mapping[str, FeatureView]) -> None:
    where = f"{FEATURES_FILE}: the on-demand view {view.name}"
    if view.mode != "python" or view.singleton:
        raise ContractViolation(
            f'{where} must have mode="python" and work on lists (no singleton): the same function then serves one '
            "request and computes a training set."
        )
    unknown = set(view.get_request_data_schema()) - {REQUEST_TIME}
    if unknown:
        raise ContractViolation(
            f"{where} asks for {_listed(unknown)} with each request, which no training row has; "
            f"only {REQUEST_TIME} is known for both."
        )
    clocks = sorted(_clocks(_function(view)))
    if clocks:
        raise ContractViolation(
            f"{where} uses {_listed(clocks)}, so that a training row would get other values than a request for the "
            f"same moment. The moment of asking is an input: {REQUEST_TIME}."
        )
    missing = set(view.source_feature_view_projections) - set(views)
    if missing:
        raise ContractViolation(f"{where} is computed from {_listed(missing)}, which {FEATURES_FILE} does not define.")


def _weight(reference: str | None, features: Sequence[ViewFeature], views: Mapping[str, Any]) -> ViewFeature | None:
    if reference is None:
        return None
    view, _, name = reference.partition(":")
    weight = _feature(view, name, views, "training.weight")
    if weight in features:
        raise ContractViolation(
            f"training.weight: {reference} is in the feature service, and so an input of the model, which a weight "
            "must not be. Take it out of the service."
        )
    if weight.type != "numeric":
        raise ContractViolation(f"training.weight: {reference} is {weight.type}. A weight is a number above 0.")
    return weight


def _feature(view: str, name: str, views: Mapping[str, Any], where: str) -> ViewFeature:
    if view not in views:
        raise ContractViolation(f"{where} names the view {view}, which is not defined; there are {_listed(views)}.")
    types = {field.name: field.dtype for field in views[view].features}
    if name not in types:
        raise ContractViolation(f"{where} names {view}:{name}, which is not defined; {view} has {_listed(types)}.")
    if types[name] not in MODEL_TYPES:
        raise ContractViolation(
            f"{where} names {view}:{name} of type {types[name]}; a model takes {_listed(map(str, MODEL_TYPES))}. "
            "Turn it into a number in the view's SQL or in an on-demand view."
        )
    return ViewFeature(view, name, MODEL_TYPES[types[name]])


def _check_names(definitions: Definitions, configuration: Configuration) -> None:
    """Columns of a training set are plain names, so no two may be the same."""
    taken = {configuration.entity.key, TIMESTAMP, REQUEST_TIME, configuration.label.name, "best_possible", GROUP}
    by_name = {**dict.fromkeys(taken, "a column that every training set has"), SCORE: "what the model answers"}
    features = definitions.joined
    for reference in dict.fromkeys([*definitions.sources(features), *(f"{f.view}:{f.name}" for f in features)]):
        name = reference.partition(":")[2]
        if name in by_name:
            raise ContractViolation(
                f"{FEATURES_FILE}: {reference} has the name of {by_name[name]}. Give one of them another name."
            )
        by_name[name] = reference
    if not definitions.features:
        raise ContractViolation(f"The feature service {configuration.features.service} names no feature.")
    names = {feature.name for feature in features}
    for name, title in configuration.features.titles.items():
        if name not in names:
            raise ContractViolation(
                f"features.titles gives {name} a title, and there is no such feature. Correct the name, or take it "
                f"out; there are {_listed(names)}."
            )
        if title in names - {name}:
            raise ContractViolation(
                f"features.titles calls {name} {title}, which is the name of another feature. Choose another title."
            )


def _function(view: OnDemandFeatureView) -> FunctionType:
    transformation = view.feature_transformation
    assert transformation is not None  # Feast lets no on-demand view be defined without one.
    function: FunctionType = transformation.udf
    return function


def _inputs(view: OnDemandFeatureView) -> tuple[str, ...]:
    stored = (field.name for p in view.source_feature_view_projections.values() for field in p.features)
    return (*stored, *view.get_request_data_schema())


def _clocks(function: FunctionType) -> set[str]:
    """What a function, or another of its file that it calls, would learn the present or chance from."""
    found: set[str] = set()
    waiting, seen = [function], {function}
    while waiting:
        called = waiting.pop()
        names = _names(called.__code__)
        found |= names & CLOCKS
        for name in names & called.__globals__.keys():
            item = called.__globals__[name]
            if isinstance(item, ModuleType) and item.__name__ in CLOCK_MODULES:
                found.add(name)
            elif isinstance(item, FunctionType) and item.__globals__ is called.__globals__ and item not in seen:
                seen.add(item)
                waiting.append(item)
    return found


def _refuse_numpy_clocks(file: Path) -> None:
    """Refuse `np.datetime64("now")` and its like: numpy asks the system for the time, where nothing can freeze it.

    Raises:
        ContractViolation: there is one; the message names the line.
    """
    try:
        tree = ast.parse(file.read_text("utf-8"))
    except (SyntaxError, ValueError):
        return  # Python says it better.
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        said = {argument.value for argument in call.args if isinstance(argument, ast.Constant)}
        if name == "datetime64" and said & {"now", "today"}:
            raise ContractViolation(
                f"{FEATURES_FILE}: line {call.lineno} asks numpy for the present, so that a training row would get "
                f"other values than a request for the same moment. The moment of asking is an input: {REQUEST_TIME}."
            )


def _names(code: CodeType) -> set[str]:
    """The names that a piece of code, and those within it, ask for."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.bool_)


def _is_whole(bits: int) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and bool(-(2**bits) <= value < 2**bits and value == int(value))


# Whether a value is one of a type: no text for a number, no fraction for a whole number, 0 or 1 for a truth.
TYPE_RULES: dict[FeastType, Callable[[Any], bool]] = {
    String: lambda value: isinstance(value, str),
    Bool: lambda value: _is_number(value) and bool(value in (0, 1)),
    Int32: _is_whole(31),
    Int64: _is_whole(63),
    Float32: _is_number,
    Float64: _is_number,
}


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
