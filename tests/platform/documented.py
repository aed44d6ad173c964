"""The commands that documentation shows, each with what the page shows of its output."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
    ROOT / "simulation" / "README.md",
]

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
PROGRAMS = (
    r"lifecycle|make|kubectl|python|(?:\.venv/bin/)?python|gcloud|docker|curl|pip|cp|cd|sed|echo|cat|prometheus|promtool"
    r"|loginctl|mc|pre-commit"
)
# In a sentence a command has words behind it: `lifecycle` alone, `python` and `docker` are names there.
IN_A_SENTENCE = re.compile(rf"(?<!`)`((?:{PROGRAMS}) [^`\n]+)`(?!`)")
COMMAND = re.compile(rf"(?:{PROGRAMS})\b|\w+=")
HEADING = re.compile(r"^#+ .*", re.MULTILINE)
REMARK = re.compile(r" +# .*")
HERE_DOCUMENT = re.compile(r"<<'?(\w+)'?$")
# Numbers, versions and names of runs are each run's own; a command's words are not.
NUMBER = re.compile(r"[0-9a-f]*\d[\d.,a-f-]*")


@dataclass
class Command:
    """A command of a page, and the lines of its output that the page shows."""

    page: str
    number: int
    line: str
    shown: list[str] = field(default_factory=list)
    of_a_block: bool = True

    @property
    def name(self) -> str:
        return f"{self.page}:{self.number} {self.line.splitlines()[0]}"

    def missing(self, printed: str) -> list[str]:
        """What the page shows and the command did not print. Numbers are left out, and … stands for anything."""
        lines = [_without_numbers(line) for line in printed.splitlines()]
        missing = [line for line in self.shown if not any(_as_shown(line).fullmatch(printed) for printed in lines)]
        # What a page breaks into lines may come in one, as JSON does.
        whole = _as_shown("".join("".join(self.shown).split()))
        return missing if missing and not whole.search("".join("".join(lines).split())) else []


def _without_numbers(line: str) -> str:
    return NUMBER.sub("#", " ".join(line.split()))


def _as_shown(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(_without_numbers(part)) for part in line.split("…")))


def commands_of(page: Path) -> list[Command]:
    """The commands of a page in their order: those of its blocks, and those in its sentences and tables."""
    text, name = page.read_text("utf-8"), page.relative_to(ROOT).as_posix()
    blocks = list(FENCE.finditer(text))
    found = [command for block in blocks if not block[1] for command in _in_a_block(name, text, block)]
    prose = HEADING.sub("", FENCE.sub(lambda block: "\n" * block[0].count("\n"), text))
    for sentence in IN_A_SENTENCE.finditer(prose):
        number = prose.count("\n", 0, sentence.start()) + 1
        found.append(Command(name, number, sentence[1], of_a_block=False))
    return sorted(found, key=lambda command: command.number)


def _in_a_block(page: str, text: str, block: re.Match[str]) -> list[Command]:
    """In a block with prompts the other lines are output; one without is of commands alone, or of none."""
    lines, first = block[2].splitlines(), text.count("\n", 0, block.start()) + 2
    prompts = any(line.startswith("$ ") for line in lines)
    if not prompts and not any(re.match(rf"(?:{PROGRAMS}) ", line) for line in lines):
        return []
    found: list[Command] = []
    end_of_document = ""
    for number, line in enumerate(lines, start=first):
        if found and (end_of_document or found[-1].line.endswith("\\")):
            found[-1].line += f"\n{line}"
            end_of_document = "" if line == end_of_document else end_of_document
        elif line.startswith("$ ") or (not prompts and line.strip() and not line.startswith("#")):
            found.append(Command(page, number, REMARK.sub("", line.strip().removeprefix("$ "))))
        elif prompts and found and line.strip() not in ("", "…"):
            found[-1].shown.append(line.strip())
        if found and (document := HERE_DOCUMENT.search(line)):
            end_of_document = document[1]
    return found
