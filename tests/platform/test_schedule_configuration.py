"""What `schedules:` in `pipeline.yaml` may say, and when a schedule is due."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from kfp_lifecycle.config.cron import Cron
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.runtime.closure import ROOT
from tests.control_planes.kubeflow import schedules


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 25 * * *", "hour: '25' is not within 0 to 23"),
        ("0 6 * * 7", "day of week: '7' is not within 0 to 6"),
        ("30-10 6 * * *", "minute: '30-10' is not within 0 to 59"),
        ("*/0 6 * * *", "minute: the step of '\\*/0' has to be a positive number"),
        ("0 6 * *", "it needs 5 fields"),
        ("0 6 * * MON", "day of week: 'MON' is neither"),
        ("daily", "it needs 5 fields"),
    ],
)
def test_a_cron_that_is_none_is_refused_with_the_field_that_is_wrong(cron: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"schedules.training.cron: .*{words}"):
        load_configuration(ROOT, [f"schedules.training.cron='{cron}'"])


def test_a_zone_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="it is no time zone of the IANA database, such as UTC or Europe/Berl"):
        load_configuration(ROOT, ["schedules.monitoring.zone=Berlin"])


def test_a_zone_alone_leaves_the_times_as_they_are_by_default() -> None:
    schedules = load_configuration(ROOT, ["schedules.monitoring.zone=Europe/Berlin"]).schedules
    assert schedules.monitoring is not None
    assert (schedules.monitoring.cron, schedules.monitoring.zone) == ("0 6 * * *", "Europe/Berlin")
    with pytest.raises(ConfigurationError, match=r"schedules\.training\.cron: this key is required"):
        load_configuration(ROOT, ["schedules.training.zone=Europe/Berlin"])


def hours(cron: str, first: str, last: str, zone: str = "UTC") -> list[str]:
    moments = Cron.parse(cron).between(datetime.fromisoformat(first), datetime.fromisoformat(last), ZoneInfo(zone))
    return [moment.isoformat(timespec="minutes").removesuffix("+00:00") for moment in moments]


def test_both_ends_of_a_window_belong_to_it() -> None:
    assert hours("0 6,18 * * *", "2026-11-01T06:00Z", "2026-11-02T06:00Z") == [
        "2026-11-01T06:00",
        "2026-11-01T18:00",
        "2026-11-02T06:00",
    ]


def test_a_zone_keeps_its_hour_through_the_year() -> None:
    # Clocks in Berlin were put forward on 29 March 2026, from 2 to 3, and back on 25 October, from 3 to 2.
    assert hours("0 6 28-30 3 *", "2026-01-01T00:00Z", "2026-12-31T00:00Z", "Europe/Berlin") == [
        "2026-03-28T05:00",
        "2026-03-29T04:00",
        "2026-03-30T04:00",
    ]
    assert hours("30 2 29 3 *", "2026-01-01T00:00Z", "2026-12-31T00:00Z", "Europe/Berlin") == []
    assert hours("30 2 25 10 *", "2026-01-01T00:00Z", "2026-12-31T00:00Z", "Europe/Berlin") == ["2026-10-25T00:30"]


@pytest.mark.parametrize(
    "cron", ["*/20 6-7 * * *", "0 0 1,15 * 1", "5/15 3 */10 2 *", "0 12 * 1-6/2 0,6", "59 23 31 * *"]
)
def test_it_is_due_when_kubeflow_s_scheduler_says(cron: str) -> None:
    """The stand-in reads expressions by itself, with seconds before them."""
    first, last = datetime.fromisoformat("2026-01-31T00:00Z"), datetime.fromisoformat("2026-06-01T00:00Z")
    due, expected = first.timestamp() - 1, []
    while (due := schedules.Cron.parse(f"0 {cron}").next(due)) <= last.timestamp():
        expected.append(due)
    found = [moment.timestamp() for moment in Cron.parse(cron).between(first, last, ZoneInfo("UTC"))]
    assert found == expected
    assert found
