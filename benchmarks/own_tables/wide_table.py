"""A wide table that is invented: numbers that go together, and texts of up to 600 values.

    python -m benchmarks.own_tables.wide_table FILE [--columns 1500] [--rows 3000]

Of 20 columns 17 are numbers and 3 are texts, of 3, 8, 40, 300 or 600 values. The label rests on three hidden factors,
one of them linearly and two by their product, and on a tenth of the texts. Run in the modelling environment; `lifecycle
init wide --from FILE --yes` makes a project of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

FACTORS, SEED = 10, 3
VALUES_OF_TEXTS = (3, 8, 40, 300, 600)


def wide_table(columns: int, rows: int) -> pd.DataFrame:
    """A key, `columns` columns and the label `outcome`."""
    random = np.random.default_rng(SEED)
    texts = columns * 3 // 20
    numbers = columns - texts
    hidden = random.normal(size=(rows, FACTORS))
    loadings = random.normal(size=(FACTORS, numbers)) * (random.random((FACTORS, numbers)) < 0.3)
    measured = np.round(hidden @ loadings + random.normal(size=(rows, numbers)), 3)
    table: dict[str, np.ndarray] = {"id": np.array([f"K{row:05d}" for row in range(rows)])}
    for place in range(numbers):
        column = measured[:, place] if place % 5 else np.round(measured[:, place] * 10)
        table[f"m{place}"] = np.where(random.random(rows) < 0.1, np.nan, column) if place % 7 == 0 else column
    log_odds = hidden[:, 0] * 1.2 + hidden[:, 1] * hidden[:, 2] - 1
    for place in range(texts):
        values = VALUES_OF_TEXTS[place % len(VALUES_OF_TEXTS)]
        codes = random.choice(values, size=rows, p=random.dirichlet(np.full(values, 0.5)))
        if place % 10 == 4:
            log_odds = log_odds + (random.normal(size=values) * 0.4)[codes]
        table[f"t{place}"] = np.array([f"v{code:03d}" for code in codes])
    happened = random.random(rows) < 1 / (1 + np.exp(-log_odds))
    return pd.DataFrame({**table, "outcome": np.where(happened, "yes", "no")})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--columns", type=int, default=1500)
    parser.add_argument("--rows", type=int, default=3000)
    arguments = parser.parse_args()
    wide_table(arguments.columns, arguments.rows).to_csv(arguments.file, index=False)
