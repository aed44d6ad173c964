"""What the documentation tells its readers to type runs, and prints what the page shows.

First the tutorial, as a reader does it. In the project that it leaves behind, or in a new folder, the other pages'
commands are typed, each once; `documented_elsewhere.py` says which test runs those that need more than that.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_line import ROOT
from documented import PAGES, Command, commands_of
from documented_elsewhere import HELD, NOT_HERE
from test_schedules_here import CRONTAB, SYSTEMCTL
from typer.main import get_command
from typing_person import Done, Person, person_in

from kfp_lifecycle.cli.cli import app
from kfp_lifecycle.local.state import STATE
from kfp_lifecycle.serving.ports import port_pair

# A whole run, and a run of a bad batch: the first test waits for both.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TUTORIAL = "docs/tutorial.md"
COMMAND_LINE = get_command(app)
# Done once for all tests.
BEFORE = ("pip install", "lifecycle setup")
FAILS = {"lifecycle run training --set source.url=bad.csv", "lifecycle check --project mine"}
# What is typed in a folder without a run, where projects begin.
IN_A_NEW_FOLDER = re.compile(
    r"lifecycle (example|init|simulate|compile|add|schema show|check --project)\b|make |cp |echo |cat |\.venv"
)
# Words that stand for the same in a reader's project.
EXAMPLES = {
    r" \[TABLE …\]": "",
    r"churn/3": "REFERENCE",
    r"a7e77a59|\b[35]\b": "VERSION",
    r"\b17\b": "ENTITY",
    r"training-\d\S+|NAME": "RUN",
    r"sheet\.html": "FILE",
    r"tables$": "DIR",
    r"[\[\]]": "",
}
BY_A_SHELL = re.compile(r"(curl|cp|cd|echo|cat|make help)\b")
# A project has to be there before it is compiled or added to, wherever on the pages that is said.
FIRST = re.compile(r"lifecycle (example|init)\b")


def elsewhere(command: Command) -> str | None:
    """The test that runs a command, or why none can; None for one that is typed here."""
    whole = "\n".join([command.line, *command.shown])
    held = (test for test, begins in HELD.items() if any(re.match(each, whole, re.MULTILINE) for each in begins))
    return next(held, None) or next((why for each, why in NOT_HERE.items() if re.match(each, whole)), None)


def is_a_name(command: Command) -> bool:
    """Whether a sentence only names a command of the command line, which takes more words than that."""
    found: Any = COMMAND_LINE
    first, *words = command.line.split()
    if command.of_a_block or first != "lifecycle":
        return False
    for word in words:
        found = getattr(found, "commands", {}).get(word)
        if found is None:
            return False
    return hasattr(found, "commands") or any(parameter.required for parameter in found.params)


SHOWN = [command for page in PAGES for command in commands_of(page)]
OF_TUTORIAL = [c for c in SHOWN if c.page == TUTORIAL and c.of_a_block and not c.line.startswith(BEFORE)]


def typed_once() -> list[Command]:
    """The commands that are typed beside the tutorial's: of those alike the one whose output is shown, or the first."""
    typed: dict[str, list[Command]] = {}
    for command in SHOWN:
        if command in OF_TUTORIAL or elsewhere(command) or is_a_name(command):
            continue
        line = command.line.partition(" --reason")[0]
        for example, meant in EXAMPLES.items():
            line = re.sub(example, meant, line)
        alike = typed.setdefault(" ".join(sorted(line.split())), [])
        if command.shown:
            alike[:] = [each for each in alike if each.shown and each.shown != command.shown]
        if command.shown or not alike:
            alike.append(command)
    of_tutorial = {command.line for command in OF_TUTORIAL}
    found = [
        command for alike in typed.values() for command in alike if command.shown or command.line not in of_tutorial
    ]
    return sorted(found, key=lambda command: not FIRST.match(command.line))


TYPED = typed_once()


@dataclass
class Finished:
    """The project that the tutorial leaves behind, and how each of its commands ended."""

    folder: Path
    done: list[Done]
    port: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / ".lifecycle").mkdir()
    (folder / ".lifecycle" / "environments").symlink_to(STATE / "environments")
    variables = os.environ | {"PATH": f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    # Beside other tests' servers, and quicker.
    port = str(port_pair())
    here = f"--set deployment.http_port={port} --set tuning.trials=3"
    project = Finished(folder, [], port)
    try:
        for command in OF_TUTORIAL:
            if command.line.startswith("cd "):
                project.folder /= command.line.removeprefix("cd ")
            line = command.line.replace("lifecycle run training", f"lifecycle run training {here}")
            ran = subprocess.run(
                ["bash", "-c", "true" if command.line.startswith("cd ") else line],
                cwd=project.folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            project.done.append(Done(ran.returncode, ran.stdout))
        yield project
    finally:
        subprocess.run(
            [ROOT / ".venv" / "bin" / "lifecycle", "down"], cwd=project.folder, capture_output=True, check=False
        )


def holds(command: Command, done: Done) -> None:
    """Fail where a command ended otherwise than its page says."""
    fails = command.line in FAILS or any(line.startswith("error: ") for line in command.shown)
    assert (done.code != 0) == fails, f"{command.name} ended with {done.code}:\n{done.printed[-3000:]}"
    missing = command.missing(done.printed)
    assert missing == [], f"{command.name} does not print what the page shows, but\n{done.printed[-3000:]}"


@pytest.mark.parametrize("number", range(len(OF_TUTORIAL)), ids=[command.line for command in OF_TUTORIAL])
def test_a_command_of_the_tutorial_does_what_the_page_shows(finished: Finished, number: int) -> None:
    holds(OF_TUTORIAL[number], finished.done[number])


@dataclass
class Reader:
    """Whoever types commands in a folder, and what the pages' words stand for there."""

    person: Person
    words: dict[str, str]
    place: Path

    def type(self, command: Command) -> Done:
        line = command.line
        for pattern, meant in self.words.items():
            line = re.sub(pattern, meant, line)
        if line.startswith("lifecycle "):
            return self.person.type(line)
        if not BY_A_SHELL.match(line):
            return Done(127, "this runs neither here nor, by documented_elsewhere.py, in another test")
        here = self.person.folder / "here"
        ran = subprocess.run(
            ["bash", "-c", f"set -e\n{line}\npwd > {shlex.quote(str(here))}"],
            cwd=self.place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.place = Path(here.read_text().strip()) if ran.returncode == 0 else self.place
        return Done(ran.returncode, ran.stdout)


@contextmanager
def in_a_new_folder(folder: Path) -> Iterator[Reader]:
    """A reader in an empty folder, with a table or two of their own."""
    (folder / ".lifecycle").mkdir()
    (folder / ".lifecycle" / "environments").symlink_to(STATE / "environments")
    (folder / "mine").mkdir()
    (folder / "mine" / "pipeline.yaml").write_text("name: mine\n")
    shutil.copytree(ROOT / "examples" / "cdnow", folder / "examples" / "cdnow")
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    shutil.copy(ROOT / "Makefile", folder)
    german_table(folder / "kunden.csv")
    rows = [f"{row},{row * 7 % 90},{'north' if row % 3 else 'south'},{int(row * 31 % 7 < 2)}" for row in range(300)]
    (folder / "customers.csv").write_text("\n".join(["CustomerId,Spent,Region,Exited", *rows]))
    refunds = [f"{row},{row % 200},2025-{1 + row % 12:02}-{1 + row % 28:02}" for row in range(300)]
    (folder / "refunds.csv").write_text("\n".join(["refund_id,customer_id,refunded_at", *refunds]))
    with sqlite3.connect(folder / "shop.db") as shop:
        shop.execute("CREATE TABLE orders (order_id INTEGER, customer_id INTEGER, ordered_at TIMESTAMP, amount REAL)")
        orders = [
            (row, row * 37 % 200, f"2025-{1 + row % 12:02}-{1 + row % 28:02} 10:00:00", row % 50) for row in range(4000)
        ]
        shop.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", orders)
    words = {"^lifecycle init churn": "lifecycle init bank", "^(lifecycle add .*)": r"\1 --project lapse"}
    with person_in(folder, {}) as person:
        yield Reader(person, words, folder)


@contextmanager
def in_the_project(finished: Finished, programs: Path) -> Iterator[Reader]:
    """A reader in the tutorial's project, whose model serves again. Their timers are not the machine's."""
    for name, text in {"systemctl": SYSTEMCTL, "crontab": CRONTAB}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    variables = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "LINES_OF_USER": str(programs / "lines"),
        "XDG_CONFIG_HOME": str(programs / "config"),
        "BROWSER": "true",
    }
    key = {"inputs": [{"name": "customer_id", "datatype": "INT64", "shape": [1], "data": [5]}]}
    (finished.folder / "request.json").write_text(json.dumps(key))
    with person_in(finished.folder, variables) as person:
        assert person.type("lifecycle serve").code == 0
        runs = json.loads(person.type("lifecycle runs --json").printed)
        run, failed = (
            next(run["id"] for run in runs if (run["pipeline"], run["state"]) == ("training", state))
            for state in ("done", "failed")
        )
        words = {
            r" \[TABLE …\]": "",
            r"\[([A-Z]+)\]": r"\1",
            r"\bRUN RUN\b|training-\S+ training-\S+": f"{run} {failed}",
            r"\b(RUN|NAME)\b": run,
            r"\bSTEP\b": "train-model",
            r"(data \w+) (VERSION|a7e77a59)": rf"\1 {person.type('lifecycle data log').printed.split()[0]}",
            r"(approve|reject) (VERSION|3)": r"\1 1",
            r"REFERENCE|churn/3": "churn/1",
            r"5a0c1f5e-prediction": json.loads(person.type("lifecycle predict --entity 5").printed)["id"],
            r"--entity 17": "--entity 5",
            r"\b(ENTITY|17)\b": "6",
            r"\bKEY\b": "training.costs",
            r"\bDIR\b": "files",
            r"\bFILE\b": "page.html",
            r":8080/": f":{finished.port}/",
        }
        yield Reader(person, words, finished.folder)


@pytest.fixture(scope="module")
def typed(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """How the commands of the other pages ended."""
    ended: dict[str, Done] = {}
    make = tmp_path_factory.mktemp
    with in_a_new_folder(make("beginning")) as beginner, in_the_project(finished, make("programs")) as owner:
        for command in TYPED:
            reader = beginner if IN_A_NEW_FOLDER.match(command.line) else owner
            ended[command.name] = reader.type(command)
    return ended


def german_table(file: Path) -> None:
    """600 customers as a spreadsheet program in Germany saves them."""
    lines = ["Kunden-Nr;Straße;Land;Geschlecht;Monate;Vertrag;MonthlyCharges;TotalCharges;Kündigung"]
    for row in range(600):
        total = f"{row * 7 % 900},5" if row % 55 else " "
        left = "ja" if row * 31 % 7 < 2 else "nein"
        sex, contract = ("m", "w")[row % 2], ("monatlich", "ein Jahr", "zwei Jahre")[row % 3]
        lines.append(f"{1000 + row};Gäßchen {row};DE;{sex};{row % 60};{contract};{row * 13 % 100},63;{total};{left}")
    file.write_text("\n".join(lines), encoding="latin-1")


@pytest.mark.parametrize("command", TYPED, ids=[command.name for command in TYPED])
def test_a_command_does_what_its_page_shows(command: Command, typed: dict[str, Done]) -> None:
    holds(command, typed[command.name])


def test_commands_that_other_tests_run_are_run_there() -> None:
    there: dict[str, set[str]] = {}
    for file in {test.partition("::")[0] for test in HELD}:
        path = ROOT / "tests" / file
        tree = ast.parse(path.read_text("utf-8")) if path.is_file() else ast.Module([], [])
        there[file] = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert [test for test in HELD if test.partition("::")[2] not in there[test.partition("::")[0]]] == []


def test_what_is_said_to_stand_in_the_documentation_does() -> None:
    """Lists of exceptions grow old as pages change."""
    lines = ["\n".join([command.line, *command.shown]) for command in SHOWN]
    patterns = [*(each for beginnings in HELD.values() for each in beginnings), *NOT_HERE]
    assert [each for each in patterns if not any(re.match(each, line, re.MULTILINE) for line in lines)] == []
