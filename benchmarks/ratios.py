"""What a benchmark finds: figures measured side by side in one run, as ratios."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ratio:
    """One figure over another that was measured beside it."""

    what: str
    """In words: what is compared with what."""
    value: float
    promise: str = ""
    """What was promised of it; empty where nothing was."""


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the option that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratios", type=Path, metavar="FILE", help="write the ratios to this file, as JSON")
    return parser


def save_ratios(ratios: Iterable[Ratio], file: Path | None) -> None:
    """Write ratios for `benchmarks/run.py`; without a file, nothing."""
    if file is not None:
        file.write_text(json.dumps([asdict(ratio) for ratio in ratios]), "utf-8")


def load_ratios(file: Path) -> list[Ratio]:
    """Read what `save_ratios` wrote."""
    return [Ratio(**ratio) for ratio in json.loads(file.read_text("utf-8"))]
