"""Somebody who types commands in a folder: the command line's own functions, in one process for all of them.

A process of its own for each command would spend most of its time on imports. This file is that process, too.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

# A server does not end; nothing that is typed takes this long, however busy the machine is.
LONGEST = 900


class Done(NamedTuple):
    """How a command ended."""

    code: int
    printed: str


class Person:
    """Types lines of `lifecycle …` in a folder, one after the other; nobody is there to answer questions."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder

    def type(self, line: str) -> Done:
        """Run a line. Of a pipe its first program runs; what it prints goes into a file where the line says so."""
        done = Done(0, "")
        for command in parts(line, "&&"):
            words = parts(command, "|")[0].split("\0")
            target = words.index(">") if ">" in words else len(words)
            done = self._run(words[1:target]) if words[0] == "lifecycle" else self._other(words)
            if target < len(words):
                (self.folder / words[target + 1]).write_text(done.printed, "utf-8")
            if done.code:
                break
        return done

    def _other(self, words: list[str]) -> Done:
        if shutil.which(words[0]) is None:
            return Done(127, f"{words[0]} is not here")
        ran = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, check=False)
        return Done(ran.returncode, ran.stdout + ran.stderr)

    def _run(self, arguments: list[str]) -> Done:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        too_long = threading.Timer(LONGEST, self.process.kill)
        too_long.start()
        answer = self.process.stdout.readline()
        too_long.cancel()
        assert answer, f"`lifecycle {shlex.join(arguments)}` did not come to an end"
        return Done(*json.loads(answer))


def parts(line: str, operator: str) -> list[str]:
    """A line's commands between an operator of the shell, each with its words divided by a zero."""
    if "\0" in line:
        words = line.split("\0")
    else:
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|>&;")
        lexer.whitespace_split = True
        # The table of a database stands behind one.
        lexer.commenters = ""
        words = list(lexer)
    found: list[list[str]] = [[]]
    for word in words:
        if word == operator:
            found.append([])
        else:
            found[-1].append(word)
    return ["\0".join(part) for part in found]


@contextmanager
def person_in(folder: Path, variables: Mapping[str, str]) -> Iterator[Person]:
    """Somebody in a folder, with variables of their own."""
    process = subprocess.Popen(
        [sys.executable, __file__],
        cwd=folder,
        env={**os.environ, "COLUMNS": "400", "NO_COLOR": "1", **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Person(process, folder)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def main() -> None:
    """Run each command that comes in a line, and answer with its exit code and what it printed."""
    asked, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    screen = os.dup(2)
    from kfp_lifecycle.cli.cli import main as lifecycle

    for line in asked:
        with tempfile.TemporaryFile() as printed:
            os.dup2(printed.fileno(), 1)
            os.dup2(printed.fileno(), 2)
            try:
                code = lifecycle(json.loads(line))
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os.dup2(screen, 1)
                os.dup2(screen, 2)
            printed.seek(0)
            text = printed.read().decode()
        answers.write(json.dumps([code, text]) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
