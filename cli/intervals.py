"""Intervals as they are typed: 30s, 5m, 6h, 1d."""

from __future__ import annotations

import re
from datetime import timedelta

from kfp_lifecycle.cli.console import refuse

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def interval(option: str, text: str, units: str) -> timedelta:
    """An interval; the command ends where it is none.

    Args:
        option: The option that it was given by, for the message.
        text: A number and a unit.
        units: The units that it may have: `smhd`.
    """
    found = re.fullmatch(rf"(?P<number>[1-9]\d*)(?P<unit>[{units}])", text)
    if found is None:
        examples = {"s": "30s", "m": "30m", "h": "6h", "d": "1d"}
        *others, last = (examples[unit] for unit in units)
        refuse(f"{option} {text!r} is no interval: write it as {', '.join(others)} or {last}")
    return timedelta(**{UNITS[found["unit"]]: int(found["number"])})
