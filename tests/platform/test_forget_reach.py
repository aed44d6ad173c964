"""What `lifecycle forget` reaches of a cluster, and what it says of all else."""

from __future__ import annotations

from typer.testing import CliRunner

from kfp_lifecycle.cli.cli import app
from kfp_lifecycle.cli.forget import reach_of
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.runtime.closure import ROOT


def test_a_log_in_an_object_store_is_reached_and_stores_are_told() -> None:
    told = load_configuration(ROOT, ["targets.kubeflow.prediction_log=s3://churn/predictions"])
    reach = reach_of(told, "kubeflow", "17")
    assert reach["prediction_log"] == "s3://churn/predictions"
    store, versions = reach["unreached"]
    assert store.startswith("the online store redis://")
    assert "delete customer_id 17 in the source" in store
    assert "digest of its content" in versions


def test_of_what_is_not_reached_the_way_there_is_told() -> None:
    told = load_configuration(ROOT, ["targets.vertex.servers.request_log=bq://churn.serving.requests"])
    # A folder that the cluster mounts, and a table whose rows are whole requests.
    reach = reach_of(told, "vertex", "o'neil")
    assert reach["prediction_log"] == ""
    assert reach["unreached"][0].startswith("the prediction log /gcs/churn-predictions is a folder of the cluster's")
    assert (
        "DELETE FROM `churn.serving.requests` WHERE EXISTS (SELECT 1 FROM UNNEST(request_payload) AS row "
        r"WHERE JSON_VALUE(row, '$.customer_id') = 'o\'neil')"
    ) in reach["unreached"][-1]


def test_nobody_is_no_entity() -> None:
    done = CliRunner().invoke(app, ["forget", " ", "--yes"])
    assert done.exit_code == 2
    assert "lifecycle forget 17" in done.output
