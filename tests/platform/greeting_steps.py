"""Steps of a pipeline of nothing but greetings: what a step's process imports, and so nothing that compiles one."""

from kfp.dsl import Artifact, Input, Metrics, Output, PipelineTaskFinalStatus

from kfp_lifecycle.runtime.component import component


@component(environment="platform")
def greet(name: str, greeting: Output[Artifact], length: Output[Metrics]):
    """Write a greeting, and its length, which is no file."""
    import sys
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import ContractViolation, step

    with step(greeting):
        if not name:
            raise ContractViolation("greet needs a name; pass one with --name")
        Path(greeting.path).write_text(f"hello {name}", "utf-8")
        greeting.metadata.update(summary=name, interpreter=sys.executable)
        length.log_metric("characters", len(name))


@component(environment="platform")
def crash(greeting: Input[Artifact]):
    """Fail without words."""
    import os

    os._exit(7)


@component(environment="platform")
def sleep(greeting: Input[Artifact]):
    """Say which processes this step is made of, and stay."""
    import os
    import subprocess

    print("self", os.getpid())
    print("child", subprocess.Popen(["sleep", "300"]).pid)
    os.wait()


@component(environment="platform")
def die(greeting: Input[Artifact]):
    """Start a process and be killed."""
    import os
    import signal
    import subprocess

    print("child", subprocess.Popen(["sleep", "300"]).pid)
    os.kill(os.getpid(), signal.SIGKILL)


@component(environment="platform")
def outcome(status: PipelineTaskFinalStatus, message: Output[Artifact]):
    """Write how the run ended."""
    import json
    from pathlib import Path

    Path(message.path).write_text(json.dumps([status.state, status.pipeline_task_name, status.error_message]))
