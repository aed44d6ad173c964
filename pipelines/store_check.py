"""The `store_check` pipeline: do the stores answer from a pod? `lifecycle doctor --from-a-pod` runs it."""

from kfp import dsl

from kfp_lifecycle.components.operations.check_stores.component import check_stores


@dsl.pipeline(name="store_check", description="Asks every store from a pod of the target.")
def store_check():
    """Ask every store that steps are told of, from where steps run, with their variables, secrets and volumes."""
    check_stores()
