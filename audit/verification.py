"""Verification of a hash chain: what was edited, removed, put elsewhere, torn or cut off, each named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kfp_lifecycle.audit.entry import Entry, read_entry
from kfp_lifecycle.audit.record import Line

Kind = Literal["torn", "edited", "removed", "moved", "cut off"]


@dataclass(frozen=True)
class Anchor:
    """The head of the record as it was once, kept where whoever changes the record does not reach."""

    where: str
    """In words."""
    number: int
    hash: str


@dataclass(frozen=True)
class Finding:
    """What is not as it was written."""

    kind: Kind
    sentence: str

    @property
    def grave(self) -> bool:
        """Whether the record cannot be trusted: a line that a killed writer left says nothing, and takes nothing."""
        return self.kind != "torn"


def verify(lines: Sequence[Line], anchors: Sequence[Anchor] = ()) -> list[Finding]:
    """Look at every entry, its neighbours, and the heads that are anchored elsewhere; nothing where all is well."""
    findings: list[Finding] = []
    entries: dict[int, Entry] = {}
    edited: set[int] = set()
    highest = 0
    for line in lines:
        try:
            entry, now = read_entry(line.text)
        except ValueError:
            findings.append(Finding("torn", f"{line.place} is no entry: its writer was killed, or it was destroyed"))
            continue
        if now != entry.hash:
            edited.add(entry.number)
            findings.append(Finding("edited", f"{line.place}, entry {entry.number}, was edited after it was written"))
        if entry.number in entries:
            findings.append(Finding("moved", f"{line.place} is a second entry {entry.number}"))
            continue
        if entry.number < highest:
            findings.append(Finding("moved", f"{line.place}, entry {entry.number}, stands after entry {highest}"))
        entries[entry.number] = entry
        highest = max(highest, entry.number)
    missing = [number for number in range(1, highest + 1) if number not in entries]
    findings += [Finding("removed", f"entry {number} was removed") for number in missing]
    for number, entry in sorted(entries.items()):
        before = entries.get(number - 1)
        chained = before.hash if before is not None else ""
        if (before is not None or number == 1) and entry.previous != chained and not edited & {number - 1, number}:
            changed = f"entry {number - 1} is not the one that entry {number} was chained to: it was written anew"
            findings.append(
                Finding("edited", changed if before is not None else "entry 1 was chained to one before it, now gone")
            )
    return findings + _against(anchors, entries, highest)


def _against(anchors: Sequence[Anchor], entries: dict[int, Entry], highest: int) -> list[Finding]:
    findings = []
    for anchor in sorted(anchors, key=lambda item: (item.number, item.where)):
        entry = entries.get(anchor.number)
        if anchor.number > highest:
            cut = f"entry {highest + 1}" + (f" to {anchor.number}" if anchor.number > highest + 1 else "")
            findings.append(Finding("cut off", f"{cut} cut off: {anchor.where} knew entry {anchor.number}"))
        elif entry is not None and entry.hash != anchor.hash:
            findings.append(
                Finding("edited", f"entry {anchor.number} is another than the one that {anchor.where} knew")
            )
    return findings
