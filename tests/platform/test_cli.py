"""What a person types: wrong commands are refused with exit code 2 and the remedy; help teaches by example."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from conftest import Checkout, new_checkout

COMMANDS = (
    "example",
    "setup",
    "compile",
    "run",
    "schedule backfill",
    "trigger new-data",
    "trigger approve",
    "status",
    "predict",
    "report",
    "reproduce",
    "serve",
    "down",
    "rollback",
    "releases",
    "release",
    "promote",
    "simulate",
    "config explain",
    "config schema",
    "data log",
    "data checkout",
    "schema infer",
    "schema show",
    "schema diff",
    "schema accept",
)


# What is imported takes longer than any of these commands, so all are given to one process.
TYPING = """
import json, os, sys, tempfile
from kfp_lifecycle.cli.cli import main
answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        code = main(json.loads(line))
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        said = [os.pread(file.fileno(), 2**20, 0).decode() for file in (out, err)]
    print(json.dumps([code, *said]), file=answers, flush=True)
"""


@dataclass(frozen=True)
class Said:
    """What came of a command."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """One checkout for all: no command here changes it."""
    return new_checkout(tmp_path_factory.mktemp("cli") / "a checkout")


@pytest.fixture(scope="module")
def typed(checkout: Checkout) -> Iterator[Callable[..., Said]]:
    """Type a command in the checkout."""
    python, *_ = checkout.command()
    with subprocess.Popen(
        [python, "-c", TYPING],
        cwd=checkout.folder,
        env=checkout.variables(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as typing:
        keys, screen = typing.stdin, typing.stdout
        assert keys is not None
        assert screen is not None

        def type_in(*arguments: str) -> Said:
            keys.write(json.dumps(arguments) + "\n")
            keys.flush()
            return Said(*json.loads(screen.readline()))

        yield type_in


def test_help_lists_every_command(checkout: Checkout) -> None:
    listed = checkout.lifecycle("--help").stdout
    assert all(command.split()[0] in listed for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_commands_help_has_an_example(typed: Callable[..., Said], command: str) -> None:
    assert f"lifecycle {command}" in typed(*command.split(), "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "name a pipeline: training"),
        (["run", "trainig"], "there is no pipeline 'trainig'"),
        (["run", "training", "--project", "nowhere"], "there is no such folder"),
        (["run", "training", "--project", "serving"], "is not a project"),
        (["run", "training", "--set", "training.sed=1"], "did you mean `seed`?"),
        (["run", "training", "--set", "nonsense"], "must look like KEY=VALUE"),
        (["run", "--resume"], "there is nothing to resume"),
        (["run", "monitoring", "--parameter", "as_off=x"], "has no parameter as_off; it has: as_of (text"),
        (["schedule", "backfill", "training", "--from", "2026-11-01"], "training has no parameter as_of: each of its"),
        (
            ["schedule", "backfill", "monitoring", "--from", "1 May"],
            "--from '1 May' is no time: write it as 2026-11-01",
        ),
        (["schedule", "backfill", "monitoring", "--from", "2999-01-01"], "--to now is before --from 2999-01-01"),
        (
            ["schedule", "backfill", "monitoring", "--from", "2026-05-01", "--every", "daily"],
            "--every 'daily' is no interval: write it as 30m, 6h or 1d",
        ),
        (
            ["schedule", "backfill", "monitoring", "--from", "2026-05-01", "--set", "schedules.monitoring=null"],
            "monitoring has no schedule in pipeline.yaml: say how often it runs",
        ),
        (
            ["schedule", "backfill", "monitoring", "--from", "2026-05-01T07:00", "--to", "2026-05-01T08:00"],
            "monitoring was not due between 2026-05-01 07:00 UTC and 2026-05-01 08:00 UTC",
        ),
        (["predict"], "name either --entity ID or --json FILE"),
        (["predict", "--entity", "1"], "nothing was released yet"),
        (["predict", "--json", "missing.json"], "nothing was released yet"),
        (["report"], "no run has a report yet"),
        (["serve"], "nothing was released yet"),
        (["rollback"], "nothing was released yet"),
        (["simulate"], "name the file to write"),
        (["simulate", "--output", "x.duckdb", "--inject", "meteor"], "meteor"),
        (["example", "churn", "."], "has pipeline.yaml, feature_repo, expectations already: name another folder"),
        (["setup", "modeling"], "there is no environment modeling; there are validation"),
        (["config", "explain", "trainig"], "pipeline.yaml has no key"),
        (["data", "checkout", "0123", "--output", "x"], "name one of `lifecycle data log`"),
        (["data", "checkout", "0123", "--remote", "r", "--output", "."], "there is something already"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_is_refused_with_the_remedy(
    typed: Callable[..., Said], arguments: list[str], message: str
) -> None:
    refused = typed(*arguments)
    assert refused.code == 2
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


def test_nothing_is_left_by_a_refused_run(checkout: Checkout) -> None:
    checkout.lifecycle("run", "training", "--set", "training.sed=1", expect=2)
    assert not list((checkout.state / "runs").glob("*"))


def test_status_of_a_new_checkout_is_empty(checkout: Checkout) -> None:
    assert checkout.status() == {"endpoint": None, "endpoints": [], "damage": None, "runs": []}


def test_down_is_harmless_where_nothing_runs(typed: Callable[..., Said]) -> None:
    assert "nothing was running" in typed("down").stdout


def test_explain_tells_the_meaning_type_and_default_of_a_key(typed: Callable[..., Said]) -> None:
    told = typed("config", "explain", "training.seed").stdout
    assert "training.seed" in told
    assert "42 by default" in told


def test_explain_tells_which_words_a_key_takes(typed: Callable[..., Said]) -> None:
    told = typed("config", "explain", "validation.on_bad_rows").stdout
    assert 'validation.on_bad_rows  stop | quarantine, "stop" by default' in told


def test_simulate_lists_the_injections_one_a_line(typed: Callable[..., Said]) -> None:
    lines = typed("simulate", "--list").stdout.splitlines()
    names = [line.split()[0] for line in lines]
    expected = {"price_rise", "marketing_campaign", "column_renamed", "refund_bug", "columns_swapped", "outage"}
    assert expected <= set(names)
    assert all(len(line.split()) > 2 for line in lines)
