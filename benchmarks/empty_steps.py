"""Steps that import the main libraries of their environment and do nothing.

kfp reads their signatures at run time, so annotations here must not be postponed.
"""

from kfp.dsl import Artifact, Output

from kfp_lifecycle.runtime.component import LifecycleComponent, component


@component(environment="platform")
def import_platform(nothing: Output[Artifact]):
    """Import what the platform environment is for."""
    from kfp_lifecycle.runtime.contract import step

    with step(nothing):
        import jinja2  # noqa: F401
        import kfp  # noqa: F401
        import kserve  # noqa: F401


@component(environment="validation")
def import_validation(nothing: Output[Artifact]):
    """Import what the validation environment is for."""
    from kfp_lifecycle.runtime.contract import step

    with step(nothing):
        import duckdb  # noqa: F401
        import great_expectations  # noqa: F401
        import tensorflow_data_validation  # noqa: F401


@component(environment="modelling")
def import_modelling(nothing: Output[Artifact]):
    """Import what the modelling environment is for."""
    from kfp_lifecycle.runtime.contract import step

    with step(nothing):
        import feast  # noqa: F401
        import mlflow  # noqa: F401
        import sklearn.ensemble  # noqa: F401


@component(environment="serving")
def import_serving(nothing: Output[Artifact]):
    """Import what the serving environment is for."""
    from kfp_lifecycle.runtime.contract import step

    with step(nothing):
        import feast  # noqa: F401
        import kserve  # noqa: F401
        import onnxruntime  # noqa: F401


# Each with what it imports.
STEPS: tuple[tuple[LifecycleComponent, str], ...] = (
    (import_platform, "jinja2, kfp, kserve"),
    (import_validation, "duckdb, great_expectations, tensorflow_data_validation"),
    (import_modelling, "feast, mlflow, sklearn.ensemble"),
    (import_serving, "feast, kserve, onnxruntime"),
)
