"""Configuration of the hyperparameter search."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, field_validator, model_validator

from kfp_lifecycle.config.section import FREE, Section, text
from kfp_lifecycle.config.training import Estimator

Scalar = str | int | float | bool | None
# As a FreeValue: text that reads as a float that is whole is that number.
FreeScalar = Annotated[Scalar, *FREE]


class Engine(StrEnum):
    """Who searches for hyperparameters."""

    optuna = "optuna"
    katib = "katib"
    vizier = "vizier"
    none = "none"


class Dimension(Section):
    """What every searched parameter may say."""

    when: dict[str, FreeScalar] = Field(default={})
    """Search this parameter only where other searched parameters have these values; elsewhere it keeps its default."""


class _Range(Dimension):
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> _Range:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic scale needs low above 0, not {self.low}")
        return self

    def may_be(self, value: Scalar) -> bool:
        """Whether the search can come to this value."""
        return isinstance(value, int | float) and self.low <= value <= self.high


class FloatRange(_Range):
    """A real number between two bounds."""

    type: Literal["float"]
    """A real number."""
    low: float
    """The smallest value."""
    high: float
    """The largest value."""
    log: bool = False
    """Search on a logarithmic scale."""

    def parse(self, text: str) -> float:
        """A value from text."""
        return float(text)


class IntRange(_Range):
    """A whole number between two bounds, both included."""

    type: Literal["int"]
    """A whole number."""
    low: int
    """The smallest value."""
    high: int
    """The largest value."""
    log: bool = False
    """Search on a logarithmic scale."""

    def parse(self, text: str) -> int:
        """A value from text, which may hold a decimal point."""
        return int(float(text))


class Choice(Dimension):
    """One of several values."""

    type: Literal["categorical"]
    """One of a list."""
    choices: list[FreeScalar] = Field(min_length=1)
    """The values to try."""

    def may_be(self, value: Scalar) -> bool:
        """Whether the search can come to this value."""
        return any(value == choice and type(value) is type(choice) for choice in self.choices)

    def parse(self, text: str) -> Scalar:
        """The choice that reads so.

        Raises:
            ValueError: none does.
        """
        return self.choices[[str(choice) for choice in self.choices].index(text)]


SearchDimension = Annotated[FloatRange | IntRange | Choice, Field(discriminator="type")]
Space = Mapping[str, FloatRange | IntRange | Choice]
# The dimension that chooses the estimator itself.
ESTIMATOR = "estimator"
_ESTIMATORS = TypeAdapter(list[Estimator])


def _default_space() -> dict[str, FloatRange | IntRange | Choice]:
    """Boosted trees from cautious to eager, and a logistic regression, which few or simple rows are often better served
    by: in the order that `Tuning` keeps a space in."""
    trees, line = "sklearn.ensemble.HistGradientBoostingClassifier", "sklearn.linear_model.LogisticRegression"

    def of_trees(low: float, high: float, log: bool = True) -> FloatRange:
        return FloatRange(type="float", low=low, high=high, log=log, when={ESTIMATOR: trees})

    def of_trees_whole(low: int, high: int) -> IntRange:
        return IntRange(type="int", low=low, high=high, log=True, when={ESTIMATOR: trees})

    return {
        ESTIMATOR: Choice(type="categorical", choices=[trees, line]),
        "C": FloatRange(type="float", low=0.001, high=30, log=True, when={ESTIMATOR: line}),
        "l2_regularization": of_trees(0.01, 50),
        "learning_rate": of_trees(0.02, 0.2),
        "max_features": of_trees(0.2, 1, log=False),
        "max_iter": of_trees_whole(30, 300),
        "max_leaf_nodes": of_trees_whole(3, 40),
        "min_samples_leaf": of_trees_whole(5, 150),
    }


DEFAULT_SPACE = _default_space()


class Katib(Section):
    """How trials run on a cluster with Katib."""

    max_failed_trials: int = Field(default=3, ge=0)
    """More failed trials than this end the search with their reasons."""
    resume_policy: Literal["Never", "LongRunning", "FromVolume"] = "Never"
    """What Katib keeps of the algorithm's state after the search (its `resumePolicy`); with `Never` the experiment is
    deleted at the end, else it stays and a later search of the same data and space goes on with it."""
    service_account: str = "default-editor"
    """The trials' Kubernetes service account; where storage asks for no key, its identity opens the training set."""
    object_store: str = "http://minio-service.kubeflow:9000"
    """Address that `minio://` artifacts are read at."""
    object_store_secret: str = "mlpipeline-minio-artifact"
    """Kubernetes secret with the object store's `accesskey` and `secretkey`; empty where the service account opens
    it."""
    cpu: str = "1"
    """Processor of each trial, as Kubernetes writes it."""
    memory: str = "2Gi"
    """Memory of each trial, as Kubernetes writes it."""


class Vizier(Section):
    """How Vertex AI Vizier is asked for settings to try."""

    project: str = ""
    """The Google Cloud project that studies belong to; the step's account needs `roles/aiplatform.user` there."""
    location: str = ""
    """The region that it is asked in."""
    algorithm: Literal["default", "random", "grid"] = "default"
    """How it searches: by its own Gaussian process, at random, or along a grid."""
    keep_study: bool = False
    """Keep the study when the search has ended, to look at it in the console."""
    endpoint: Annotated[
        str, text(r"^(https?://[^\s]+[^/\s])?$", "an address looks like https://HOST, without a slash at the end")
    ] = ""
    """Address of the Vertex AI API where it is not the region's own. To one of `http://` no credentials are sent."""


class Tuning(Section):
    """The search for hyperparameters. The plain default is always its first trial. Where nothing is said of it, the
    default search is made: boosted trees and a logistic regression, 24 trials at the most."""

    engine: Engine = Engine.optuna
    """`optuna` searches on the machine of this step, `katib` on the cluster (target `kubeflow` only); `vizier` tries on
    the machine of this step what Vertex AI Vizier suggests; `none` keeps the parameters of `training`."""
    trials: int = Field(default=24, gt=0)
    """How many settings are tried, the default among them."""
    parallel_trials: int = Field(default=4, gt=0)
    """How many trials are under way at once; each knows the results of all before them. On one machine they share the
    cores there are, and the result does not depend on how many those are."""
    folds: int = Field(default=3, gt=0)
    """Each setting is judged by this many folds in the order of time inside the training snapshots: trained on the
    snapshots whose label was known, judged on those that follow. Fewer where there are too few snapshots."""
    pruning: bool = True
    """Give a trial up between two folds when it is worse than the median of the trials before it."""
    timeout_seconds: int = Field(default=300, gt=0)
    """The search ends after this many seconds with what it has; the default is measured in any case."""
    space: dict[str, SearchDimension] = Field(default=DEFAULT_SPACE)
    """The estimator's parameters and the values to try. A choice that is called `estimator` searches for the estimator
    too, among import paths; the parameters of one of them then name it in `when`. With `{}` the default alone is tried:
    so it is where `training` names an estimator or parameters, and no space is given."""
    katib: Katib = Katib()
    """How trials run on a cluster with Katib."""
    vizier: Vizier = Vizier()
    """How Vertex AI Vizier is asked."""

    @property
    def trials_here(self) -> int:
        """Trials of the step that tries on its own machine: the default alone, unless there is a space for it."""
        return self.trials if self.engine in (Engine.optuna, Engine.vizier) and self.space else 1

    @model_validator(mode="after")
    def _vizier_is_somewhere(self) -> Tuning:
        if self.engine is Engine.vizier and not (self.vizier.project and self.vizier.location):
            raise ValueError(
                "engine is vizier, so vizier.project and vizier.location have to say where it is asked: a Google Cloud "
                "project and a region, such as europe-west4"
            )
        return self

    @field_validator("space", mode="after")
    @classmethod
    def _estimators_are_named(cls, space: dict[str, SearchDimension]) -> dict[str, SearchDimension]:
        dimension = space.get(ESTIMATOR)
        if dimension is not None:
            _ESTIMATORS.validate_python(dimension.choices if isinstance(dimension, Choice) else None)
        return space

    @field_validator("space", mode="after")
    @classmethod
    def _parents_first(cls, space: dict[str, SearchDimension]) -> dict[str, SearchDimension]:
        # By name, since a search depends on the order, and a struct that KFP hands to a step keeps none.
        ordered: dict[str, FloatRange | IntRange | Choice] = {}
        while waiting := [name for name in sorted(space) if name not in ordered]:
            ready = [name for name in waiting if ordered.keys() >= space[name].when.keys()]
            for name in ready or waiting:
                for parent, value in space[name].when.items():
                    if parent not in space:
                        raise ValueError(
                            f"{name}.when names {parent}, which is not searched; there are {', '.join(space)}"
                        )
                    if not ready:
                        raise ValueError(f"the conditions of {', '.join(waiting)} go round in a circle")
                    if not space[parent].may_be(value):
                        raise ValueError(f"{name}.when waits for {parent} = {value!r}, which it never is")
                ordered[name] = space[name]
        return ordered


def is_active(dimension: Dimension, values: Mapping[str, Any]) -> bool:
    """Whether a dimension is searched beside the values that were chosen for those it waits for."""
    return all(parent in values and values[parent] == value for parent, value in dimension.when.items())


def active_values(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values whose condition holds; an engine that knows no conditions gives them all."""
    kept: dict[str, Any] = {}
    for name, dimension in space.items():
        if is_active(dimension, kept):
            kept[name] = values[name]
    return kept


def estimators_of(space: Space) -> list[str]:
    """The import paths that a search chooses among; none where it is for parameters alone."""
    dimension = space.get(ESTIMATOR)
    return [str(path) for path in dimension.choices] if isinstance(dimension, Choice) else []


def space_of(estimator: str, space: Space) -> list[str]:
    """Names of the parameters that are searched for an estimator."""
    return [name for name in space if name != ESTIMATOR and space[name].when.get(ESTIMATOR, estimator) == estimator]
