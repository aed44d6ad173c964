"""What all commands share: where they print, how they end, which project they mean."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from kfp_lifecycle.runtime.states import RunState


class CommandConsole(Console):
    """A console that falls silent when nobody reads any more (`lifecycle run | head`): a run does not end with it."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich says. No text steers the terminal, whoever wrote it: a caller's key, a reason of the audit record."""
        super().print(*(harmless(item) if isinstance(item, str) else item for item in objects), **options)

    def on_broken_pipe(self) -> None:
        """As rich says, and without ending the program."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())

    def say(self, text: str) -> None:
        """Print a line as it stands: brackets are no markup, and a terminal's width breaks nothing that is copied."""
        self.print(text, markup=False, soft_wrap=True)


# Joiners of letters and emoji, and what sets text from right to left apart: none turns what stands around it.
JOINING = "\u200c\u200d\u2068\u2069"


def harmless(text: str) -> str:
    """A text without control characters but ends of lines, tabs, and what joins or isolates letters of a name."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" or letter in JOINING else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


# kfp redirects what the process prints while a pipeline runs; the console keeps the terminal it began with.
out = CommandConsole(file=sys.stdout, highlight=False)
err = CommandConsole(stderr=True, highlight=False)
# How something goes on, beside what a command prints for others to read.
say = err.say

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

STYLES = {
    RunState.running: "cyan",
    RunState.done: "green",
    RunState.rejected: "yellow",
    RunState.failed: "bold red",
    RunState.interrupted: "yellow",
    RunState.damaged: "bold red",
}

# Commands in a message that are about a project and do not name it.
OF_A_PROJECT = re.compile(r"`(lifecycle (?:check|run|schema|add)\b(?![^`]*--(?:project|resume))[^`]*)`")
Project = Annotated[
    Path | None, typer.Option("--project", metavar="DIR", help="The project's folder; by default the one here.")
]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a configuration key.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def write_json(value: Any, *, ensure_ascii: bool = True) -> None:
    """Print a value for scripts."""
    in_ascii = ensure_ascii or sys.stdout.encoding.lower() != "utf-8"
    sys.stdout.write(json.dumps(value, indent=1, default=str, ensure_ascii=in_ascii) + "\n")


def refuse(message: str) -> NoReturn:
    """End because the command or the configuration is wrong."""
    err.say(f"error: {message}")
    raise typer.Exit(EXIT_USAGE)


def project_folder(chosen: Path | None) -> Path:
    """The project meant: the one named, else the one here."""
    if chosen is not None:
        if not chosen.is_dir():
            refuse(f"--project {chosen}: there is no such folder")
        return chosen.resolve()
    if not Path("pipeline.yaml").is_file():
        refuse(
            f"{Path.cwd()} is not a project: it has no pipeline.yaml. Go to a project's folder, name one with "
            "--project, or begin with an example: `lifecycle example churn`"
        )
    return Path.cwd()


def option_of(project: Path) -> str:
    """How a command names a project: ` --project DIR`; nothing where it is the one here."""
    here = Path.cwd()
    if project == here:
        return ""
    shown = project.relative_to(here) if project.is_relative_to(here) else project
    return f" --project {shlex.quote(str(shown))}"


def naming(text: str, project: Path) -> str:
    """A message whose commands name the project, so that they can be typed as they stand."""
    return OF_A_PROJECT.sub(lambda command: f"`{command[1]}{option_of(project)}`", text)
