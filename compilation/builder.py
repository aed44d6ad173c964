"""Builder of KFP components: a declaration becomes a component for a target, and a task of a pipeline."""

from __future__ import annotations

import base64
import bz2
import json
from collections.abc import Mapping
from typing import Any

from kfp import dsl
from kfp.dsl import structures
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.python_component import PythonComponent

from kfp_lifecycle.compilation.code import EXECUTOR, code_of, keep_code, standalone_archive, zipped
from kfp_lifecycle.compilation.step_pods import settle
from kfp_lifecycle.compilation.target import Target, current_target
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.settings import settings_of
from kfp_lifecycle.runtime.code_version import CODE_VARIABLE
from kfp_lifecycle.runtime.component import LifecycleComponent
from kfp_lifecycle.runtime.executor import CODE_INPUT
from kfp_lifecycle.runtime.state_folder import state_folder

# Unpacks the archive that is its last argument but the step's own, and runs it as if it were a file of its own. It is
# packed by bzip2, whose bytes are the same everywhere; those of zlib, and gzip's header, differ between Pythons.
STANDALONE = (
    "import base64, bz2, runpy, sys, tempfile; "
    "file = tempfile.NamedTemporaryFile(suffix='.zip'); "
    "file.write(bz2.decompress(base64.b64decode(sys.argv.pop(1)))); file.flush(); "
    "sys.argv[0] = file.name; runpy.run_path(file.name, run_name='__main__')"
)


def add_task(component: LifecycleComponent, arguments: Mapping[str, Any]) -> dsl.PipelineTask:
    """Add a task to the pipeline that is being defined, for the target that it is compiled for.

    Raises:
        ConfigurationError: the settings of the component are neither given nor known from the target's configuration.
    """
    target = current_target()
    given = dict(arguments)
    if component.reads and "settings" not in given:
        if target.configuration is None:
            raise ConfigurationError(
                f"{component.name} needs its settings, a dictionary with the sections {', '.join(component.reads)}: "
                f"{component.name}(settings={{…}}, …), or compile the pipeline with a project"
            )
        given["settings"] = settings_of(target.configuration, component.reads)
    if needs_code(component, target):
        given[CODE_INPUT] = target.imported[component.environment]
    task: dsl.PipelineTask = build(component, target)(**given)
    if target.name == "local":
        return task if component.cached else task.set_caching_options(False)
    settle(task, component, target)
    return task


def needs_code(component: LifecycleComponent, target: Target) -> bool:
    """Whether the component's code is an input of it."""
    return target.vehicle == "artifact" and not component.standalone


def build(component: LifecycleComponent, target: Target) -> BaseComponent:
    """The KFP component of a declaration for a target."""
    built: BaseComponent = dsl.component(
        component.function, base_image=target.image(component.environment), install_kfp_package=False
    )
    specification = built.component_spec
    if needs_code(component, target):
        code = structures.InputSpec("system.Artifact@0.0.1", description="The archive of the step's code.")
        specification.inputs = {**(specification.inputs or {}), CODE_INPUT: code}
    container = specification.implementation.container
    container.command = command_of(component, target)
    container.args = ["--executor_input", "{{$}}", "--function_to_execute", component.name]
    container.env = variables_of(component, target) or None
    # Made anew, since it reads its inputs when it is made.
    return PythonComponent(component_spec=specification, python_func=component.function)


def command_of(component: LifecycleComponent, target: Target) -> list[str]:
    """The program of a step's container; what KFP says of inputs and outputs follows."""
    if target.vehicle != "artifact":
        return ["python3", "-m", EXECUTOR, component.module]
    if component.standalone:
        files = standalone_archive(component, with_secret_manager=bool(target.vertex and target.vertex.secrets))
        packed = base64.b64encode(bz2.compress(zipped(files))).decode("ascii")
        return ["python3", "-c", STANDALONE, packed, component.module]
    return ["python3", f"{{{{$.inputs.artifacts['{CODE_INPUT}'].path}}}}", component.module]


def variables_of(component: LifecycleComponent, target: Target) -> dict[str, str]:
    """What a step is told in its environment's variables: its locations, and what it records or starts servers on."""
    if target.name == "local":
        # Part of the cache's key: a change of a step's code runs it again, and what depends on it.
        kept = target.keeps_code and keep_code(code_of(component), target.state or state_folder())
        return {CODE_VARIABLE: kept} if kept else {}
    variables = target.locations.as_variables(component.locations) if target.locations is not None else {}
    pods = target.kubeflow
    if component.records_origin:
        variables |= target.origin()
        # An artifact knows its own name.
        variables |= {CODE_VARIABLE: target.code.get(component.environment, target.library_digest)}
    if component.starts_servers:
        variables |= {
            "LIFECYCLE_SERVING_IMAGE": target.image("serving"),
            "LIFECYCLE_SERVING_SECRETS": json.dumps(pods.secrets if pods else {}, sort_keys=True),
            "LIFECYCLE_SERVING_VOLUMES": json.dumps(pods.volumes if pods else {}, sort_keys=True),
        }
        if pods:
            variables["LIFECYCLE_SERVING_KSERVE"] = pods.servers.model_dump_json(exclude_defaults=True)
        if target.vertex:
            # As JSON they are no references to whoever starts the step: servers resolve their own.
            variables["LIFECYCLE_SERVING_REFERENCES"] = json.dumps(target.vertex.secrets, sort_keys=True)
            variables["LIFECYCLE_SERVING_VERTEX"] = target.vertex.servers_given().model_dump_json(exclude_defaults=True)
    if target.vertex:
        variables |= target.vertex.secrets
    if pods and target.vehicle == "artifact":
        # A stock image knows no user but root: no home, and no name, which DVC asks for.
        variables |= {"HOME": "/tmp", "USER": "lifecycle"}
    return variables
