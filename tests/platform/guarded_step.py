"""A step that fails when it is told to, in a module of its own: its process imports it."""

from kfp_lifecycle.runtime.component import component


@component(environment="platform")
def work(reason: str):
    """Fail for a reason, or do nothing."""
    from kfp_lifecycle.runtime.contract import ContractViolation, step

    with step():
        if reason:
            raise ContractViolation(reason)
