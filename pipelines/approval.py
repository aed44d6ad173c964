"""Human approval in the training pipeline: chosen by the project while the pipeline is defined."""

from collections.abc import Iterator
from contextlib import contextmanager

from kfp import dsl

from kfp_lifecycle.compilation.target import current_target
from kfp_lifecycle.components.operations.write_report.component import write_report
from kfp_lifecycle.config.gate import Approval


@contextmanager
def when_approved(decision: object, findings: dict) -> Iterator[None]:
    """A block of steps that a person has to let go on, where `gate.approval` asks for it; else they follow at once.

    Args:
        decision: What `register_model` returns: `approved`, or `waits`.
        findings: What the report of a run tells that ends here and waits.
    """
    configuration = current_target().configuration
    if configuration is None or configuration.gate.approval is Approval.none:
        yield
        return
    with dsl.If(decision == "approved", name="let go on"):
        yield
    with dsl.If(decision == "waits", name="waits for approval"):
        write_report(**findings)
