"""No figure of the documentation stands alone: each is checked here, or its place names what measured it.

What a page states of the code is compared with the code. What a benchmark measured is one figure in one place: a page
that says it again links to the section of `docs/benchmarks.md`, and has to say the same.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from documented import ROOT
from documented_figures import BENCHMARKS, TOLD, Figure, figures_of, headings
from figure_sources import GIVEN, MEASURED, STATED

from benchmarks.run import BENCHMARKS as RUN
from kfp_lifecycle.environments.lock import GROUPS
from kfp_lifecycle.environments.locks import pinned_requirements

IDS = [page.relative_to(ROOT).as_posix() for page in TOLD]
RESTATED = re.compile(r"\]\((?:\.\./|docs/)*benchmarks\.md(?:#([^)]+))?\)")
SOURCE = re.compile(r"\btests/[\w/]+\.py|\btest_\w+\.py|\bbenchmarks/\w+|\bbenchmarks\.(?!md)\w+|[Mm]easured by hand")
VERSION = re.compile(r"([A-Za-z][\w-]*)(?:'s)?(?: SDK)? $")
LOCKED: dict[str, set[str]] = {}
for group in GROUPS:
    for name, _, version in (pin.partition("==") for pin in pinned_requirements(group)):
        LOCKED.setdefault(re.sub(r"\[.*", "", name).lower().replace("_", "-"), set()).add(version)


@cache
def sections_of_benchmarks() -> dict[str, str]:
    """The text of each section, by its anchor."""
    text = BENCHMARKS.read_text("utf-8")
    places = headings(text)
    ends = [*(place for place, _ in places[1:]), len(text)]
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-"): text[place:end]
        for (place, title), end in zip(places, ends, strict=True)
    }


def spans(text: str, phrase: str) -> list[tuple[int, int]]:
    """Where a phrase stands, however its lines are broken."""
    words = r"\s+".join(re.escape(word) for word in phrase.split())
    return [found.span() for found in re.finditer(words, text)]


def stands_in(figure: Figure, section: str) -> bool:
    """Whether a section says a figure, as it is or less rounded."""
    written = figure.text.replace(",", "")
    if written.count(".") > 1:
        return written in section
    digits = len(written.partition(".")[2]) or -(len(written) - len(written.rstrip("0")))
    there = [float(number.replace(",", "")) for number in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", section)]
    return any(round(number / unit, digits) == float(written) for number in there for unit in (1, 1000))


def is_a_version(figure: Figure, text: str) -> bool:
    """Whether a figure is the version of a package, as a lock has it."""
    named = VERSION.search(text[: figure.start])
    return named is not None and any(
        f"{version}.".startswith(f"{figure.text}.") for version in LOCKED.get(named[1].lower(), ())
    )


def without_source(page: Path) -> list[Figure]:
    name, text = page.relative_to(ROOT).as_posix(), page.read_text("utf-8")
    said = [phrase.format(value) for phrase, value in STATED.get(name, {}).items()] + GIVEN.get(name, [])
    covered = [span for phrase in said for span in spans(text, phrase)]
    left = []
    for figure in figures_of(page):
        if any(begin <= figure.start < end for begin, end in covered) or is_a_version(figure, text):
            continue
        if f"{name}#{figure.section}" in MEASURED or SOURCE.search(figure.block):
            continue
        anchors = RESTATED.findall(figure.block)
        if any(stands_in(figure, sections_of_benchmarks().get(anchor, "")) for anchor in anchors if anchor):
            continue
        left.append(figure)
    return left


@pytest.mark.parametrize("page", TOLD, ids=IDS)
def test_a_figure_is_checked_or_its_place_names_what_measured_it(page: Path) -> None:
    left = without_source(page)
    assert left == [], (
        "figures without a source: name the test or benchmark beside them, link to the section of benchmarks.md that "
        "has them, or state in figure_sources.py what they have to be\n" + "\n".join(map(str, left))
    )


@pytest.mark.parametrize("page", STATED)
def test_a_page_says_what_the_code_does(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    said = [phrase.format(value) for phrase, value in STATED[page].items()]
    assert [phrase for phrase in said if not spans(text, phrase)] == [], f"{page} says otherwise, or nothing any more"


@pytest.mark.parametrize("page", GIVEN)
def test_what_is_given_stands_on_its_page(page: str) -> None:
    """Lists of exceptions grow old as pages change."""
    text = (ROOT / page).read_text("utf-8")
    assert [phrase for phrase in GIVEN[page] if not spans(text, phrase)] == []


def test_what_measured_a_section_exists_and_is_named_there() -> None:
    for place, source in MEASURED.items():
        page, _, section = place.partition("#")
        text = (ROOT / page).read_text("utf-8")
        places = headings(text)
        titles = [title for _, title in places]
        assert section in titles, f"{page} has no section {section}"
        begin = places[titles.index(section)][0]
        end = next((place for place, _ in places if place > begin), len(text))
        assert (ROOT / source).exists(), source
        assert Path(source).stem in text[begin:end], f"{place} does not name {source}"


@pytest.mark.parametrize("page", [*TOLD, BENCHMARKS], ids=[*IDS, "docs/benchmarks.md"])
def test_every_test_and_benchmark_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    tests = {test.name for test in (ROOT / "tests").rglob("test_*.py")}
    named = set(re.findall(r"\b(test_\w+\.py)", text))
    assert named <= tests
    paths = re.findall(r"`((?:tests|benchmarks)/[\w/]+(?:\.py)?)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert set(re.findall(r"benchmarks/run\.py (\w+)|python -m benchmarks\.(\w+)", text)) <= {
        pair for name in [*RUN, "parity"] for pair in ((name, ""), ("", name))
    } | {("NAME", "")}


def test_each_section_of_benchmarks_is_of_one_that_is_run_and_each_that_is_run_has_one() -> None:
    text = BENCHMARKS.read_text("utf-8")
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    by_hand = [title for title in titles if "`" not in title]
    assert by_hand == ["On a real Kubeflow Pipelines"]
    assert "by hand, not by `make bench`" in sections_of_benchmarks()["on-a-real-kubeflow-pipelines"]
    named = {name for title in titles for name in re.findall(r"`(\w+)`", title)}
    assert named <= set(RUN)
    elsewhere = {name for name in set(RUN) - named if any(name in page.read_text("utf-8") for page in TOLD)}
    assert named | elsewhere == set(RUN)
