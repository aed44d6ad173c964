"""The tutorial, as a reader would do it: each of its commands runs, in order, and prints what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from command_line import ROOT
from conftest import port_pair

from kfp_lifecycle.local.state import STATE

# One whole run, and a run of a bad batch: the first test waits for both.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TUTORIAL = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Done once for all tests, or nothing for a machine without a screen.
NOT_HERE = ("pip install", "lifecycle setup")
FAILS = {"lifecycle run training --set source.url=bad.csv": 1}
# Numbers, versions and names of runs are each run's own; a command's words are not.
NUMBER = re.compile(r"[0-9a-f]*\d[\d.,a-f-]*")


@dataclass
class Command:
    """A command of the page, and what the page shows of its output."""

    line: str
    shown: list[str] = field(default_factory=list)
    code: int = -1
    printed: str = ""


def commands_of(page: Path) -> list[Command]:
    """The commands in a page's blocks. In a block with prompts the other lines are output."""
    found: list[Command] = []
    for block in BLOCK.findall(page.read_text("utf-8")):
        lines = block.splitlines()
        prompts = any(line.startswith("$ ") for line in lines)
        for line in lines:
            if not prompts or line.startswith("$ "):
                found.append(Command(line.removeprefix("$ ")))
            elif line.strip() not in ("", "…"):
                found[-1].shown.append(line.strip())
    return [command for command in found if not command.line.startswith(NOT_HERE)]


def without_numbers(line: str) -> str:
    return NUMBER.sub("#", " ".join(line.split()))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Command]]:
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / ".lifecycle").mkdir()
    (folder / ".lifecycle" / "environments").symlink_to(STATE / "environments")
    path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    # Beside other tests' servers, and quicker.
    here = f"--set deployment.http_port={port_pair()} --set tuning.trials=3"
    commands, place = commands_of(TUTORIAL), folder
    try:
        for command in commands:
            if command.line.startswith("cd "):
                place /= command.line.removeprefix("cd ")
                command.code = 0
                continue
            line = command.line.replace("lifecycle run training", f"lifecycle run training {here}")
            ran = subprocess.run(
                ["bash", "-c", line],
                cwd=place,
                env=os.environ | {"PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            command.code, command.printed = ran.returncode, ran.stdout
        yield commands
    finally:
        subprocess.run([ROOT / ".venv" / "bin" / "lifecycle", "down"], cwd=place, capture_output=True, check=False)


COMMANDS = commands_of(TUTORIAL)


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=[command.line for command in COMMANDS])
def test_a_command_of_the_tutorial_does_what_the_page_shows(done: list[Command], number: int) -> None:
    command = done[number]
    assert command.code == FAILS.get(command.line, 0), command.printed[-3000:]
    printed = {without_numbers(line) for line in command.printed.splitlines()}
    missing = [line for line in command.shown if without_numbers(line) not in printed]
    assert missing == [], command.printed[-3000:]
