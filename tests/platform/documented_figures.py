"""The figures that documentation states, and where on a page each stands.

A figure is a number of a sentence or a table. What stands in code is none: commands, settings and their output have
tests of their own. Nor is what a block quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from documented import FENCE, PAGES, ROOT

GENERATED = "<!-- Written by"
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
# A record of a decision tells what was known on its day; the simulation's page is a table of its own settings.
OF_THEIR_DAY = [*(ROOT / "docs" / "decisions").glob("0*.md"), ROOT / "simulation" / "README.md"]
TOLD = [
    page
    for page in PAGES
    if page not in (BENCHMARKS, *OF_THEIR_DAY) and not page.read_text("utf-8").startswith(GENERATED)
]

NUMBER = re.compile(r"(?<![\w.,/#$⁻-])\d+(?:,\d{3})*(?:\.\d+)*(?:e-?\d+)?(?![\d]|\.\d)")
INDENTED = re.compile(r"^    \S.*", re.MULTILINE)
QUOTED = re.compile(r"^> .*", re.MULTILINE)
NOT_PROSE = [
    FENCE,
    INDENTED,
    QUOTED,
    re.compile(r"`[^`\n]*`"),
    re.compile(r"\]\([^)]*\)|<https?:[^>]*>|<!--.*?-->", re.DOTALL),
]

# Numbers that are names, and no claims.
NAMES = re.compile(
    "|".join(
        [
            r"^ *#+ \d+\.|^ *\d+\. |^\| \d+(?:, \d+)? \||^\| \[\d+\]?|^## Days .*",  # what is counted
            r"\b(?:19|20)\d\d\b(?:-\d\d-\d\d)?|\b\d{1,2} (?:January|February|March|April|May|November)\b",
            r"(?<![\d.,])[01](?![\d%]|[.,]\d|e-)",  # labels, bits, nothing and one
            r"\[[N\d, ]+\]|\b(?:32|64)[ -]bits?\b|\b32 and 64 bits\b",
            r"\b(?:400|401|403|404|405|408|413|415|429|431|503)(?=[,:;.) ]|$)(?! (?:requests|pixels|s\b))|\b[45]xx\b",
            r"\((?:95|99)%|(?<=a )95%|its 95%|95% interval|the 95%|(?<=with )95% confidence",  # levels of confidence
            r"\bISO 8601|YAML 1\.2|CycloneDX 1\.6|HTTP/[12](?:\.1)?|TLS\*\* ends in one place, 1\.2 or 1\.3",
            r"\b\w+/[\w-]+#\d+",  # somebody's issue
        ]
    ),
    re.MULTILINE,
)


@dataclass(frozen=True)
class Figure:
    """A number of a page, with what stands around it."""

    page: str
    line: int
    start: int
    text: str
    around: str
    section: str
    block: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text} in “{self.around}”"


def _blanked(text: str, pattern: re.Pattern[str]) -> str:
    return pattern.sub(lambda found: re.sub(r"[^\n]", "\0", found[0]), text)


def prose(text: str) -> str:
    """A page without its code and links, each letter where it was."""
    for pattern in NOT_PROSE:
        text = _blanked(text, pattern)
    return text


def blocks(text: str) -> list[tuple[int, int]]:
    """Where paragraphs begin and end. A table or a list belongs to the sentences before it."""
    ends = [found.start() for found in re.finditer(r"\n\s*\n(?![|\-] ?)|\Z", text)]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def headings(text: str) -> list[tuple[int, str]]:
    return [(0, ""), *((found.start(), found[1]) for found in re.finditer(r"^#+ (.+)$", text, re.MULTILINE))]


def figures_of(page: Path) -> list[Figure]:
    """Every figure of a page, in its order."""
    text = page.read_text("utf-8")
    clean = prose(text)
    claims = _blanked(clean, NAMES)
    parts, titles = blocks(text), headings(_blanked(text, FENCE))
    found = []
    for number in NUMBER.finditer(claims):
        begin, end = next(part for part in parts if part[0] <= number.start() <= part[1])
        around = text[max(0, number.start() - 50) : number.end() + 30]
        found.append(
            Figure(
                page=page.relative_to(ROOT).as_posix(),
                line=text.count("\n", 0, number.start()) + 1,
                start=number.start(),
                text=number[0],
                around=" ".join(around.split()),
                section=[title for place, title in titles if place <= number.start()][-1],
                block=text[begin:end],
            )
        )
    return found
