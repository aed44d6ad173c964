"""Names of columns, which SQL reads without regard to case."""

from __future__ import annotations

from collections.abc import Sequence

from kfp_lifecycle.runtime.contract import ContractViolation


def in_small_letters(names: Sequence[str]) -> list[str]:
    """The names; in small letters where all are in capitals, as databases write those that nobody quoted."""
    spelled = [name for name in names if name]
    if spelled and all(name.isupper() for name in spelled):
        return [name.lower() for name in names]
    return list(names)


def check_names_differ(names: Sequence[str], where: str) -> None:
    """Refuse columns whose names are the same, or differ in case alone.

    Args:
        where: The table and the file, as the message begins.

    Raises:
        ContractViolation: naming both.
    """
    known: dict[str, str] = {}
    for name in names:
        other = known.get(name.casefold())
        if other == name:
            raise ContractViolation(f"{where} has the column {name!r} twice. Give each column a name of its own.")
        if other is not None:
            raise ContractViolation(
                f"{where} has the columns {other!r} and {name!r}, whose names differ in case alone, and SQL cannot "
                "tell them apart. Rename one in the source."
            )
        known[name.casefold()] = name
