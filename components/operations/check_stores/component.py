"""Component: reachability check of a target's stores, from where the steps run."""

from kfp.dsl import Artifact, Output

from kfp_lifecycle.runtime.component import component


@component(
    environment="platform",
    locations=("tracking_uri", "dataset_remote", "online_store", "prediction_log"),
    cached=False,
    standalone=True,
)
def check_stores(stores: Output[Artifact]):
    """Ask each store that steps are told of whether it answers, from a pod of the target, with its variables.

    A store that does not answer is a finding and no failure: `lifecycle doctor --from-a-pod` reads all of them.

    Args:
        stores: JSON lines: `store`, `reached` and `detail` of each. metadata: `summary`.
    """
    from pathlib import Path

    from kfp_lifecycle.runtime.contract import step

    with step(stores):
        from kfp_lifecycle.components.operations.check_stores.reachability import check_all

        found = check_all()
        Path(stores.path).write_text("".join(f"{answer.line()}\n" for answer in found), "utf-8")
        for answer in found:
            print(f"store {answer.line()}", flush=True)
        away = [answer.store for answer in found if not answer.reached]
        stores.metadata["summary"] = f"away: {', '.join(away)}" if away else f"{len(found)} stores answer"
