"""What a person types: wrong commands are refused with exit code 2 and the remedy; help teaches by example."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Checkout, new_checkout
from typing_person import Done, person_in

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


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """One checkout for all: no command here changes it."""
    return new_checkout(tmp_path_factory.mktemp("cli") / "a checkout")


@pytest.fixture(scope="module")
def typed(checkout: Checkout) -> Iterator[Callable[..., Done]]:
    """Type a command in the checkout."""
    with person_in(checkout.folder, checkout.variables()) as person:
        yield lambda *arguments: person.type(shlex.join(["lifecycle", *arguments]))


def test_help_lists_every_command(checkout: Checkout) -> None:
    listed = checkout.lifecycle("--help").stdout
    assert all(command.split()[0] in listed for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_commands_help_has_an_example(typed: Callable[..., Done], command: str) -> None:
    assert f"lifecycle {command}" in typed(*command.split(), "--help").printed


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
    typed: Callable[..., Done], arguments: list[str], message: str
) -> None:
    refused = typed(*arguments)
    assert refused.code == 2
    assert message in refused.printed
    assert "Traceback" not in refused.printed


@pytest.mark.parametrize(
    "command", ["run training", "release 3", "approve 3", "forget 17", "audit verify --target vertex", "reproduce 1"]
)
def test_a_project_that_cannot_be_read_is_told_of_by_every_command(
    typed: Callable[..., Done], checkout: Checkout, tmp_path: Path, command: str
) -> None:
    (tmp_path / "pipeline.yaml").write_text("name: [\n")
    refused = typed(*command.split(), "--project", str(tmp_path))
    assert refused.code == 2
    assert f"{tmp_path / 'pipeline.yaml'} is not valid YAML" in refused.printed
    assert "Traceback" not in refused.printed


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("kfp_lifecycle.cli.cli", {"pydantic", "yaml", "kfp", "duckdb", "numpy"}),
        ("kfp_lifecycle.projects.lacks", {"kfp", "duckdb", "numpy"}),
    ],
    ids=["the help", "check"],
)
def test_a_command_begins_at_once_and_imports_what_it_needs_alone(
    checkout: Checkout, module: str, heavy: set[str]
) -> None:
    python, *_ = checkout.command()
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([python, "-c", program], env=checkout.variables(), capture_output=True, text=True, check=True)
    assert heavy & set(done.stdout.split()) == set()


def test_a_letter_that_the_terminal_does_not_have_is_shown_by_its_number(checkout: Checkout, tmp_path: Path) -> None:
    variables = checkout.variables() | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        checkout.command("example", "churn", "prüfung"), cwd=tmp_path, env=variables, capture_output=True, check=True
    )
    assert done.stdout.startswith(rb"pr\xfcfung: the project churn.")
    assert (tmp_path / "prüfung" / "pipeline.yaml").is_file()


def test_a_full_disk_that_it_prints_to_is_told_of_as_such(checkout: Checkout) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            checkout.command("config", "schema"),
            env=checkout.variables(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: there was no room to write: where this prints to is full")
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_read_enough_is_no_error(checkout: Checkout) -> None:
    line = f"set -o pipefail; {shlex.join(checkout.command('config', 'explain'))} | head -1"
    done = subprocess.run(["bash", "-c", line], env=checkout.variables(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("name  string")


def test_nothing_is_left_by_a_refused_run(checkout: Checkout) -> None:
    checkout.lifecycle("run", "training", "--set", "training.sed=1", expect=2)
    assert not list((checkout.state / "runs").glob("*"))


def test_status_of_a_new_checkout_is_empty(checkout: Checkout) -> None:
    assert checkout.status() == {"endpoint": None, "endpoints": [], "damage": None, "runs": []}


def test_down_is_harmless_where_nothing_runs(typed: Callable[..., Done]) -> None:
    assert "nothing was running" in typed("down").printed


def test_explain_tells_the_meaning_type_and_default_of_a_key(typed: Callable[..., Done]) -> None:
    told = typed("config", "explain", "training.seed").printed
    assert "training.seed" in told
    assert "42 by default" in told


def test_explain_tells_which_words_a_key_takes(typed: Callable[..., Done]) -> None:
    told = typed("config", "explain", "validation.on_bad_rows").printed
    assert 'validation.on_bad_rows  stop | quarantine, "stop" by default' in told


def test_simulate_lists_the_injections_one_a_line(typed: Callable[..., Done]) -> None:
    lines = typed("simulate", "--list").printed.splitlines()
    names = [line.split()[0] for line in lines]
    expected = {"price_rise", "marketing_campaign", "column_renamed", "refund_bug", "columns_swapped", "outage"}
    assert expected <= set(names)
    assert all(len(line.split()) > 2 for line in lines)
