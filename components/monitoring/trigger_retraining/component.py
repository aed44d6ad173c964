"""Component: a retraining that is due, started as the project's policy says."""

from kfp.dsl import Artifact, Input, Output

from kfp_lifecycle.runtime.component import component


@component(
    environment="platform",
    reads=("monitoring.retraining", "label.horizon_days"),
    cached=False,
    carries=("kfp_lifecycle.backends.retraining",),
)
def trigger_retraining(
    settings: dict,
    remedy: Input[Artifact],
    training_pipeline: Input[Artifact],
    request: Output[Artifact],
    run_id: str = "",
    run_name: str = "",
):
    """Start the training pipeline, or ask a person to, as `monitoring.retraining` says; record what was done and why.

    The run's name is made of the window and the reason, so that a window which is looked at again starts nothing twice.
    On a cluster the pipeline that was compiled with this one is submitted by the step's own account. On this machine
    whoever runs monitoring starts it when this run has ended.

    Args:
        settings: `monitoring.retraining` is the policy: mode, cool-down, budget, quiet hours; `label.horizon_days` says
            from when on there is something to learn of a change.
        remedy: What `decide_remedy` decided; one that no training carries out fails this step.
        training_pipeline: Folder with the compiled training pipeline, and where it runs; compiling monitoring makes it.
        request: JSON file (`docs/schemas/request.schema.json`): `reason`, `action`, `decision`, `asked_by`
            and `run`, which a person's approval starts, too. metadata: `action`, `sentence`, `run`, `run_id`.
        run_id: This run, as Kubeflow calls it.
        run_name: This run, as Vertex AI calls it.
    """
    import os
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(request):
        import json

        from kfp_lifecycle.components.monitoring.trigger_retraining.request import ask_for_retraining

        given = trigger_retraining.given(settings)
        asking = {
            "policy": given.monitoring.retraining.model_dump(mode="json"),
            "horizon_days": given.label.horizon_days,
            "remedy": remedy.path,
            "training_pipeline": training_pipeline.path,
            "request": request.path,
            "asked_by": {
                "local": os.environ.get("LIFECYCLE_RUN_ID", run_id),
                "kubeflow": run_id,
                "vertex": run_name,
            },
        }
        content = ask_for_retraining(json.dumps(asking), Path(remedy.path), Path(request.path))
        request.metadata.update(content.metadata())
