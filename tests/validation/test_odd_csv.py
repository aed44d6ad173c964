"""Polluted CSV files: each is read as its author meant it, or refused; none is read wrongly."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.odd_files import OddFile, odd_files, outcome

READABLE = [file for file in odd_files() if file.readable]


@pytest.mark.slow
def test_no_odd_file_is_read_wrongly(tmp_path: Path) -> None:
    wrong, counted = {}, Counter[str]()
    for file in odd_files():
        found = outcome(file, tmp_path)
        counted[found.partition(":")[0]] += 1
        if found.startswith("wrong"):
            wrong[file.name] = found
    assert wrong == {}
    assert counted["right"] >= len(READABLE)


@pytest.mark.parametrize("file", READABLE, ids=lambda file: file.name)
def test_what_can_be_read_in_one_way_only_is_read(file: OddFile, tmp_path: Path) -> None:
    assert outcome(file, tmp_path) == "right"
