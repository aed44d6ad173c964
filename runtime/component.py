"""Declaration of a component: its function, its environment, and which settings and locations it reads."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kfp import dsl

    from kfp_lifecycle.config.configuration import Configuration
    from kfp_lifecycle.config.locations import Locations

# What makes a KFP task of a declaration. A step, which imports its declaration too, needs nothing of it.
BUILDER = "kfp_lifecycle.compilation.builder"
# What types settings and locations, by name: a step that has none carries nothing of it.
SETTINGS, LOCATIONS = "kfp_lifecycle.config.settings", "kfp_lifecycle.config.locations"


class LifecycleComponent:
    """A KFP component of this library.

    Calling it in a pipeline adds a task, as calling any KFP component does; inside `compiling_for` the task is built
    for that target, and `settings` may be left out: it is taken from the target's configuration.

    Attributes:
        function: The component's function, which runs in the step.
        environment: One of `environments/*.in`.
        reads: Sections of the configuration (`gate`), or single keys of one (`deployment.model`), that it is given as
            its parameter `settings`.
        locations: Fields of `Locations` that it is told in its environment variables.
        carries: Modules that travel with it beside those it imports, to be handed on by it.
        carries_locks: Locks that travel with it, to be handed on by it.
        cached: Whether its outputs may stand in for a later run with the same code and inputs.
        standalone: Whether it needs nothing but Python, kfp and the lock of its own name, if there is one. On a stock
            image its code then rides in its own container, as it has to in an exit handler, which can have no inputs.
        records_origin: Whether it is told its environment and the code's version, to keep them with its result.
        starts_servers: Whether it starts servers on a cluster, and so has to know what they run on.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        environment: str,
        reads: Iterable[str],
        locations: Iterable[str],
        carries: Iterable[str],
        carries_locks: Iterable[str],
        cached: bool,
        standalone: bool,
        records_origin: bool,
        starts_servers: bool,
    ) -> None:
        self.function = function
        self.environment = environment
        self.name = function.__name__
        self.module = function.__module__
        self.reads = tuple(reads)
        self.locations = tuple(locations)
        self.carries = tuple(carries)
        self.carries_locks = tuple(carries_locks)
        self.cached = cached
        self.standalone = standalone
        self.records_origin = records_origin
        self.starts_servers = starts_servers
        self.__doc__ = function.__doc__

    def __call__(self, **arguments: Any) -> dsl.PipelineTask:
        """Add a task to the pipeline that is being defined."""
        task: dsl.PipelineTask = importlib.import_module(BUILDER).add_task(self, arguments)
        return task

    def given(self, settings: Mapping[str, Any]) -> Configuration:
        """The settings that the step was given, typed; no other section can be read of them.

        Raises:
            ContractViolation: a section or key is unknown to the step, missing or wrong.
        """
        from kfp_lifecycle.config.errors import ConfigurationError
        from kfp_lifecycle.runtime.contract import ContractViolation

        try:
            given: Configuration = importlib.import_module(SETTINGS).given_settings(settings, self.reads, self.name)
            return given
        except ConfigurationError as error:
            raise ContractViolation(str(error)) from error

    def located(self) -> Locations:
        """The locations that the step was told; no other can be read of them.

        Raises:
            ContractViolation: one is missing, or cannot be used.
        """
        from kfp_lifecycle.config.errors import ConfigurationError
        from kfp_lifecycle.runtime.contract import ContractViolation

        try:
            told: Locations = importlib.import_module(LOCATIONS).Locations.from_environment(self.locations, self.name)
            return told
        except ConfigurationError as error:
            raise ContractViolation(str(error)) from error


def component(
    *,
    environment: str,
    reads: Iterable[str] = (),
    locations: Iterable[str] = (),
    carries: Iterable[str] = (),
    carries_locks: Iterable[str] = (),
    cached: bool = True,
    standalone: bool = False,
    records_origin: bool = False,
    starts_servers: bool = False,
) -> Callable[[Callable[..., Any]], LifecycleComponent]:
    """Make a function a component that runs in a named environment.

    Args:
        environment: One of `environments/*.in`.
        reads: What it is given as `settings`; a component that reads any takes a parameter of that name.
        locations: What it is told in environment variables.
        carries: Modules that travel with it beside those it imports, to be handed on by it.
        carries_locks: Locks that travel with it, to be handed on by it.
        cached: False for what has an effect outside its outputs, and for what reads something that its inputs do not
            name.
        standalone: Whether it needs nothing but Python, kfp and the lock of its own name, as an exit handler has to.
        records_origin: Whether it is told its environment and the code's version, to keep them with its result.
        starts_servers: Whether it starts servers on a cluster, and so has to know what they run on.
    """

    def decorate(function: Callable[..., Any]) -> LifecycleComponent:
        return LifecycleComponent(
            function,
            environment,
            reads,
            locations,
            carries,
            carries_locks,
            cached,
            standalone,
            records_origin,
            starts_servers,
        )

    return decorate
