"""Public tables of different shape, which packages that are locked here carry, written as people keep them.

    python -m benchmarks.own_tables.public_tables FOLDER

Run in the modelling environment.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.datasets
from sklearn.datasets import load_breast_cancer, load_digits

from kfp_lifecycle.environments.locks import environment_directory

# Outpatient visits in a year from which on a person is taken for a heavy user: fewer than 1 in 100 are.
HEAVY_USE = 25


def affairs(folder: Path) -> None:
    """6,366 answers to a magazine (Fair 1978): who had an affair. One flat file, no key, no time."""
    table = statsmodels.datasets.fair.load_pandas().data
    table["Affair"] = np.where(table.pop("affairs") > 0, "yes", "no")
    table.to_csv(folder / "affairs.csv", sep=";", decimal=",", index=False)


def visits(folder: Path) -> None:
    """20,190 years of people in the RAND health insurance experiment: who needs a doctor very often. A rare event."""
    table = statsmodels.datasets.randhie.load_pandas().data
    table["heavy_use"] = (table.pop("mdvis") >= HEAVY_USE).astype(int)
    table.to_csv(folder / "visits.csv", index=False)


def digits(folder: Path) -> None:
    """1,797 written digits (Alpaydin and Kaynak 1998): which is an eight. Pixels and their differences, 300 columns."""
    pixels = load_digits().images
    sides, downs, slants = np.diff(pixels, axis=2), np.diff(pixels, axis=1), pixels[:, 1:, 1:] - pixels[:, :-1, :-1]
    wider = pixels[:, :, 2:] - pixels[:, :, :-2]
    lower = pixels[:, 2:, :] - pixels[:, :-2, :]
    parts = [each.reshape(len(pixels), -1) for each in (pixels, sides, downs, slants, wider, lower)]
    columns = np.concatenate(parts, axis=1)[:, :300]
    table = pd.DataFrame(columns, columns=[f"Pixel {number}" for number in range(columns.shape[1])])
    table["is_eight"] = load_digits().target == 8
    table.to_parquet(folder / "digits.parquet", index=False)


def tumours(folder: Path) -> None:
    """569 tumours (Wolberg, Street and Mangasarian 1995): two tables of a database, in another order."""
    data = load_breast_cancer(as_frame=True)
    patient = [f"P{number:04d}" for number in range(len(data.target))]
    label = data.target.map({0: "malignant", 1: "benign"})
    with sqlite3.connect(folder / "clinic.db") as database:
        data.data.assign(patient_id=patient).iloc[::-1].to_sql("measures", database, index=False)
        pd.DataFrame({"patient_id": patient, "diagnosis": label}).to_sql("findings", database, index=False)


def purchases(folder: Path) -> None:
    """6,919 purchases of 2,357 customers of CDNOW (Fader and Hardie 2001): a log of events, without a label."""
    [file] = environment_directory("validation").glob("lib/python*/site-packages/lifetimes/datasets/CDNOW_sample.txt")
    columns = ["customer_id", "sample", "date", "cds", "amount"]
    table = pd.read_csv(file, sep=r"\s+", header=None, names=columns, dtype={"date": str}).drop(columns="sample")
    table["date"] = pd.to_datetime(table.date, format="%Y%m%d").dt.strftime("%d.%m.%Y")
    table.to_csv(folder / "purchases.csv", index=False)


if __name__ == "__main__":
    for write in (affairs, purchases, visits, digits, tumours):
        write(Path(sys.argv[1]))
