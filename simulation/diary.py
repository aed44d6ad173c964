"""What happened to whom on which day, noted as it happens."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Happenings:
    """Things of one kind that happened to customers, one entry each: shape (happenings,) everywhere."""

    customer: NDArray[np.intp]
    """Position in the population."""
    day: NDArray[np.int64]
    details: dict[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.customer)


class Diary:
    """Collects happenings, kind by kind, in the order of days."""

    def __init__(self) -> None:
        self._customers: dict[str, list[NDArray[np.intp]]] = defaultdict(list)
        self._days: dict[str, list[NDArray[np.int64]]] = defaultdict(list)
        self._details: dict[str, dict[str, list[NDArray[np.float64]]]] = defaultdict(lambda: defaultdict(list))

    def note(self, kind: str, day: int, customers: NDArray[np.intp], **details: NDArray[np.generic]) -> None:
        """Note that something happened on a day to some customers; details have one value for each of them."""
        self._customers[kind].append(customers)
        self._days[kind].append(np.full(len(customers), day, np.int64))
        for name, values in details.items():
            self._details[kind][name].append(values.astype(np.float64))

    def read(self, kind: str) -> Happenings:
        """All that was noted of one kind.

        Raises:
            KeyError: nothing of this kind was ever noted, not even that it happened to nobody.
        """
        if kind not in self._customers:
            raise KeyError(kind)
        return Happenings(
            customer=np.concatenate(self._customers[kind]),
            day=np.concatenate(self._days[kind]),
            details={name: np.concatenate(values) for name, values in self._details[kind].items()},
        )
