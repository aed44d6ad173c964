"""`lifecycle schedule backfill` on this machine: monitoring, run for moments that are past, once each."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Checkout

pytestmark = pytest.mark.slow

# The schedule of monitoring is 6 o'clock UTC by default.
WINDOW = ["monitoring", "--from", "2026-05-01", "--to", "2026-05-02"]


def test_a_window_is_listed_run_once_and_left_afterwards(whole_run: tuple[Checkout, dict[str, Any]]) -> None:
    checkout, run = whole_run
    window = [*WINDOW, *run["settings"]]
    listed = checkout.lifecycle("schedule", "backfill", *window, "--dry-run").stdout.splitlines()
    assert listed == [
        "2026-05-01 06:00 UTC  runs as monitoring-at-20260501-060000",
        "2026-05-02 06:00 UTC  runs as monitoring-at-20260502-060000",
    ]
    before = json.loads(checkout.lifecycle("runs", "--json", "--limit", "100").stdout)

    filled = json.loads(checkout.lifecycle("schedule", "backfill", *window, "--json").stdout)
    assert [(item["moment"], item["result"]) for item in filled] == [
        ("2026-05-01 06:00:00+00:00", "done"),
        ("2026-05-02 06:00:00+00:00", "done"),
    ]
    artifacts = json.loads(checkout.lifecycle("artifacts", filled[0]["run"], "--json").stdout)
    predictions = next(item for item in artifacts if item["name"] == "predictions")
    assert predictions["metadata"]["end"].startswith("2026-05-01T06:00:00")

    again = checkout.lifecycle("schedule", "backfill", *window).stdout.splitlines()
    assert [line.split("  ")[:3] for line in again] == [
        ["2026-05-01 06:00 UTC", "left", filled[0]["run"]],
        ["2026-05-02 06:00 UTC", "left", filled[1]["run"]],
    ]
    after = json.loads(checkout.lifecycle("runs", "--json", "--limit", "100").stdout)
    assert len(after) == len(before) + 2
