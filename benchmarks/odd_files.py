"""How many of how many odd files are read right, refused, or read wrongly. Run in the validation environment.

    python benchmarks/run.py odd_files

CSV files with one thing wrong, by kind (tests/odd_files.py), and, where this machine has them, a folder of deliberately
broken Parquet files (`--folder`).
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import duckdb

from benchmarks.ratios import Ratio, argument_parser, save_ratios
from kfp_lifecycle.components.data.ingest_data.parquet_files import select_parquet
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.odd_files import OddFile, odd_files, outcome

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "naughty"
OUTCOMES = ("right", "refused", "wrong")


def kind_of(file: OddFile) -> str:
    """The name without what tells files of a kind apart."""
    name = file.name.partition(", ")[2] if file.name.startswith("row ") else file.name
    return " ".join(word for word in name.split() if not word.isdigit()).removesuffix(" at").removesuffix(" before")


def parquet_outcome(file: Path) -> str:
    """A broken Parquet file cannot be right: refused, or read to its end with the rows that it says it has."""
    with duckdb.connect() as connection:
        try:
            rows = select_parquet(connection, [file], "odd")
            read = len(connection.execute(rows).fetchall())
            told = connection.execute("SELECT sum(num_rows) FROM parquet_file_metadata(?)", [str(file)]).fetchall()
        except (ContractViolation, duckdb.Error, ValueError, OverflowError):
            return "refused"
    return "right" if told[0][0] == read else "wrong"


def main() -> None:
    """Print a table by kind, and save the shares."""
    parser = argument_parser(__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="a folder with csv/ and parquet/ of odd files")
    options = parser.parse_args()
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="odd-files-") as name:
        for file in odd_files():
            found = outcome(file, Path(name))
            counted[kind_of(file)][found.partition(":")[0]] += 1
            wrong += [f"{file.name}: {found}"] if found.startswith("wrong") else []
    total = sum(counted.values(), Counter[str]())
    for kind, found in sorted(counted.items()):
        print(f"{kind:50} " + "  ".join(f"{each} {found[each]:4}" for each in OUTCOMES))
    print(f"{'all CSV files':50} " + "  ".join(f"{each} {total[each]:4}" for each in OUTCOMES))
    for line in wrong:
        print(f"  {line}")
    count = sum(total.values())
    ratios = [
        Ratio(f"odd CSV files read wrongly / {count}", total["wrong"] / count, "0"),
        Ratio(f"odd CSV files read right / {count}", total["right"] / count),
    ]
    if options.folder.is_dir():
        broken = Counter(parquet_outcome(file) for file in sorted((options.folder / "parquet").glob("*.parquet")))
        print(f"{'broken Parquet files':50} " + "  ".join(f"{each} {broken[each]:4}" for each in OUTCOMES))
        parquet_count = sum(broken.values())
        ratios.append(
            Ratio(f"broken Parquet files read wrongly / {parquet_count}", broken["wrong"] / parquet_count, "0")
        )
    else:
        print(f"{options.folder} is not here: broken Parquet files were not tried")
    save_ratios(ratios, options.ratios)


if __name__ == "__main__":
    main()
