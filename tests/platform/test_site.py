"""The documentation's site: it builds without a dead link, needs no other site, and anybody can read it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import needs_browser, overflow, running_browser, shown, violations
from playwright.sync_api import Browser

from kfp_lifecycle.cli import reference
from kfp_lifecycle.environments.locks import interpreter

ROOT = Path(__file__).resolve().parents[2]
# The theme gives each button that copies a region of its own, all of one name.
COPY_BUTTONS = ".md-code__nav"
PAGES = ["index.html", "tutorial.html", "configuration.html", "how-to/canary.html", "benchmarks.html"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("site") / "site"
    command = [interpreter("docs"), "-m", "mkdocs", "build", "--strict", "--site-dir", built]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"the site has dead links, or pages that nothing leads to:\n{done.stderr[-3000:]}"
    return built


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


def test_the_reference_is_fresh() -> None:
    for name, text in reference.pages().items():
        assert (reference.DOCS / name).read_text("utf-8") == text, f"docs/{name} is stale: run `make reference`"


@pytest.mark.slow
def test_a_link_to_a_file_of_the_repository_leads_to_its_copy(site: Path) -> None:
    copy = site / "source" / "examples" / "cdnow" / "pipeline.yaml"
    assert copy.read_bytes() == (ROOT / "examples" / "cdnow" / "pipeline.yaml").read_bytes()
    assert 'href="source/examples/cdnow/pipeline.yaml"' in (site / "bring-your-own-project.html").read_text("utf-8")


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_no_other_site_and_is_readable_on_a_phone(site: Path, browser: Browser, name: str) -> None:
    with shown(browser, site / name, width=400) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.reload()
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        assert overflow(page) == 0
        # Tables that are wider than the page scroll, and are reached by the keyboard.
        assert violations(page, but=[COPY_BUTTONS]) == []


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_wrong(site: Path, browser: Browser, name: str, scheme: str) -> None:
    with shown(browser, site / name, scheme=scheme) as page:
        assert violations(page, but=[COPY_BUTTONS]) == []
