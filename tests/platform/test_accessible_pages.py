"""Pages that people read, in a real browser: axe finds nothing wrong, in light and dark, and none scrolls sideways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import report_fixture
from browser import needs_browser, overflow, running_browser, shown, violations
from playwright.sync_api import Browser

from kfp_lifecycle.config.loading import parse_configuration
from kfp_lifecycle.reports.report import collect, render

pytestmark = [needs_browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    configuration = parse_configuration(report_fixture.CONFIGURATION)
    page = folder / "report.html"
    page.write_text(render(collect(configuration, report_fixture.training_run(folder / "artifacts"))), "utf-8")
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_everybody_can_read_the_report_of_a_run(browser: Browser, report: Path, scheme: str, width: int) -> None:
    with shown(browser, report, width=width, scheme=scheme) as page:
        assert violations(page) == []
        assert overflow(page) == 0


def test_the_report_can_be_printed_with_nothing_folded_away(browser: Browser, report: Path, tmp_path: Path) -> None:
    with shown(browser, report) as page:
        page.emulate_media(media="print")
        hidden = page.evaluate(
            "[...document.querySelectorAll('section h2')].filter(each => !each.checkVisibility()).map(e => e.innerText)"
        )
        assert hidden == []
        page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def test_every_part_of_the_report_is_reached_by_the_keyboard(browser: Browser, report: Path) -> None:
    with shown(browser, report) as page:
        linked = page.evaluate("document.querySelectorAll('nav a').length")
        reached = set()
        for _ in range(linked + 20):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.getAttribute('href')"))
        assert len({href for href in reached if href and href.startswith("#")}) == linked > 3
