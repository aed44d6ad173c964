"""A real browser for the tests of pages: the machine's Chromium, driven by Playwright, with axe to judge."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")
PATIENCE_MS = 120_000
"""A busy machine takes its time to paint."""


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser that is gone with the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE_MS)
        yield browser
        browser.close()


@contextmanager
def shown(browser: Browser, file: Path, *, width: int = 1400, scheme: Any = "light") -> Iterator[Page]:
    """A page on the screen, in a window of that width and with the reader's choice of colours."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(file.as_uri())
    yield page
    context.close()


def violations(page: Page, *, but: Sequence[str] = ()) -> list[str]:
    """What axe finds wrong: rule, element, and what to do about it. `but` are elements that are not looked at."""
    found = Axe().run(page, context={"exclude": [[element] for element in but]}).response["violations"]
    return [
        f"{rule['id']}: {node['target'][0]}: {node['failureSummary'].splitlines()[-1].strip()}"
        for rule in found
        for node in rule["nodes"]
    ]


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    wider: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return wider
