"""Split by entity, stratified or grouped: which rows train, validate and test where no part is later than another."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kfp_lifecycle.artifacts.training_set import PartName
from kfp_lifecycle.components.features.build_training_set.split import Split as SplitByTime
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.features import Split
from kfp_lifecycle.runtime.contract import ContractViolation

# The column of labelled rows with the part of each, where time does not tell it.
PART = "split_part"
# How much more than its share a part may get so that a group stays whole.
OVER = 1.25


def stratified_parts(keys: Sequence[Hashable], labels: Sequence[int], split: Split) -> list[PartName]:
    """The part of each entity: of either class the same share in each, chosen by a digest of the key.

    A digest knows no order and does not change when rows are added: an entity that tested goes on testing, as far as
    the shares allow.

    Args:
        keys: The entities' keys, each once.
        labels: 1 for the event, 0 for none.
        split: The shares and the seed.
    """
    parts: list[PartName] = ["train"] * len(keys)
    for value in (0, 1):
        rows = [row for row, label in enumerate(labels) if label == value]
        rows.sort(key=lambda row: digest(keys[row], split.seed))
        test = round(len(rows) * split.test_share)
        validation = round(len(rows) * split.validation_share)
        for place, row in enumerate(rows[: test + validation]):
            parts[row] = "test" if place < test else "validation"
    return parts


def by_entity(keys: Sequence[Hashable], split: Split, *, train: bool = True) -> list[PartName]:
    """The part of each entity by a digest of its key alone: the same at every date and in every run with the same
    shares and seed, whoever else is there.

    Args:
        keys: The entities' keys.
        split: The shares and the seed.
        train: Whether who neither tests nor validates trains; else these two share all, in their proportion.
    """
    bounds = split.test_share, split.test_share + split.validation_share
    if not train:
        bounds = split.test_share / bounds[1], 1.0
    places = (int.from_bytes(digest(key, split.seed)) / 2**64 for key in keys)
    return ["test" if place < bounds[0] else "validation" if place < bounds[1] else "train" for place in places]


def divide_by_entity(split: SplitByTime, labels: Mapping[datetime, Path], configuration: Configuration) -> None:
    """Write into the labels' files which part each row is of, after a change.

    Earlier rows train where their label was known before the first date of the change, as in a split by time; where it
    was not, those alone of who trains afterwards: the others' belong to no part.
    """
    for snapshot in split.used:
        rows = pq.read_table(labels[snapshot])
        keys = rows[configuration.entity.key].to_pylist()
        parts: list[PartName | None] = list(by_entity(keys, configuration.split, train=split.learns_from_change))
        if split.divided_since is not None and snapshot < split.divided_since:
            known = snapshot + configuration.label.horizon <= split.divided_since
            parts = ["train" if known or part == "train" else None for part in parts]
        pq.write_table(rows.append_column(PART, pa.array(parts, pa.string())), labels[snapshot])


def grouped_parts(groups: Sequence[Hashable], split: Split) -> list[PartName]:
    """The part of each row, the rows of a group in one: groups in the order of a digest, as the shares have room.

    Args:
        groups: The rows' groups.
        split: The shares, the seed and the column's name.

    Raises:
        ContractViolation: there are too few groups, or one is too large for the shares.
    """
    sizes: dict[Hashable, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    room = {"test": len(groups) * split.test_share, "validation": len(groups) * split.validation_share}
    filled = dict.fromkeys(room, 0)
    part_of: dict[Hashable, PartName] = {}
    for group in sorted(sizes, key=lambda group: digest(group, split.seed)):
        part_of[group] = "train"
        names: tuple[PartName, ...] = ("test", "validation")
        for name in names:
            if filled[name] < room[name] and filled[name] + sizes[group] <= room[name] * OVER:
                part_of[group] = name
                filled[name] += sizes[group]
                break
    rows = [part_of[group] for group in groups]
    # The validation part is divided once more, into what calibrates and what sets the threshold.
    few = len({group for group in sizes if part_of[group] == "validation"}) < 2
    if few or not {"train", "test"} <= set(rows):
        largest = max(sizes, key=lambda group: sizes[group])
        raise ContractViolation(
            f"split.group: {split.group} has {len(sizes):,} values in {len(groups):,} rows, the most frequent, "
            f"{largest!r}, in {sizes[largest]:,}: too few, or too large, to train on some, to test on "
            f"{split.test_share:.0%} and to validate on {split.validation_share:.0%} of the rows with groups kept "
            "whole, two of them to validate. Name a column with more values, or set split.by: random."
        )
    return rows


def digest(value: Hashable, seed: int) -> bytes:
    """Orders values by chance, the same way each time."""
    return hashlib.blake2b(f"{seed}\0{value}".encode(), digest_size=8).digest()
