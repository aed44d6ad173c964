"""A foreign Parquet or Arrow file runs no code: PyArrow 10, which TFDV asks for, would unpickle it (CVE-2023-47248)."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from shop import ORDERS, file_url, ingest, make_project

from kfp_lifecycle.connections.arrow import pa
from kfp_lifecycle.runtime.closure import PACKAGE, ROOT, imported_names, module_closure, module_file
from kfp_lifecycle.runtime.contract import ContractViolation

GATE = f"{PACKAGE}.connections.arrow"
READ_PARQUET = "from pyarrow import parquet; parquet.read_table({file!r})"
READ_STREAM = "pa.ipc.open_stream(open({file!r}, 'rb')).read_all()"


class Malicious(pa.PyExtensionType):  # type: ignore[misc]
    """A type whose pickle makes a folder when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker
        super().__init__(pa.int64())

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """It exists once the file's code has run."""
    return tmp_path / "marker"


@pytest.fixture
def table(marker: Path) -> Any:
    numbers = pa.array([1, 2], pa.int64())
    days = pa.array(["2025-01-01", "2025-01-02"])
    amounts = pa.ExtensionArray.from_storage(Malicious(marker), numbers)
    return pa.table({"order_id": numbers, "ordered_at": days, "amount": amounts})


@pytest.fixture
def parquet_file(tmp_path: Path, table: Any) -> Path:
    from pyarrow import parquet

    parquet.write_table(table, tmp_path / "orders.parquet")
    return tmp_path / "orders.parquet"


@pytest.fixture
def stream(tmp_path: Path, table: Any) -> Path:
    with (tmp_path / "orders.arrow").open("wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return tmp_path / "orders.arrow"


def python(*lines: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)


def components_here() -> list[str]:
    """The modules that declare a component of the environment `validation`."""
    found = [
        f"{PACKAGE}.{'.'.join(file.relative_to(ROOT).with_suffix('').parts)}"
        for file in sorted((ROOT / "components").glob("*/*/component.py"))
        if 'environment="validation"' in file.read_text("utf-8")
    ]
    assert len(found) >= 5
    return found


def modules_behind(names: Iterable[str]) -> list[str]:
    return [
        path.removesuffix(".py").replace("/", ".")
        for path in module_closure(names)
        if path.endswith(".py") and not path.endswith("__init__.py")
    ]


@pytest.mark.slow
def test_without_the_hotfix_the_files_would_run_code_here(parquet_file: Path, stream: Path, marker: Path) -> None:
    for read, file in ((READ_PARQUET, parquet_file), (READ_STREAM, stream)):
        assert not marker.exists()
        python("import pyarrow as pa", read.format(file=str(file)))
        assert marker.is_dir()
        marker.rmdir()


@pytest.mark.slow
@pytest.mark.parametrize("component", components_here())
def test_whatever_a_step_imports_neither_form_runs_code(
    component: str, parquet_file: Path, stream: Path, marker: Path
) -> None:
    imports = [f"import {module}" for module in modules_behind([component])]
    # As the executor does: kfp without what compiles.
    before = ["import os, sys", "os.environ['_KFP_RUNTIME'] = 'true'", *imports]
    without = "if 'pyarrow' not in sys.modules: sys.exit('nothing here reads Arrow')"
    reads = [READ_PARQUET.format(file=str(parquet_file)), READ_STREAM.format(file=str(stream))]
    attempts = [f"try: {read}\nexcept RuntimeError as error: print(str(error).splitlines()[0])" for read in reads]
    # A read that PyArrow 10 breaks off may leave a thread behind, which aborts an orderly end of the interpreter.
    leave = "sys.stdout.flush(); os._exit(0)"
    ended = python(*before, without, "import pyarrow as pa", *attempts, leave)
    assert not marker.exists()
    refused = "Disallowed deserialization of 'arrow.py_extension_type':\n" * 2
    assert (ended.returncode, ended.stdout) == (0, refused) or ended.stderr == "nothing here reads Arrow\n", (
        ended.stderr
    )


def test_every_module_of_those_steps_takes_pyarrow_from_the_one_that_mends_it() -> None:
    behind = modules_behind(components_here())
    assert GATE in behind
    unmended = []
    for module in behind:
        file = module_file(module)
        assert file is not None
        imported = imported_names(ast.parse(file.read_text("utf-8")))
        # Buckets as file systems hold bytes, and no Arrow.
        reads_arrow = any(f"{name}.".startswith("pyarrow.") for name in imported - {"pyarrow.fs"})
        if module != GATE and reads_arrow and f"{GATE}.pa" not in imported:
            unmended.append(module)
    assert unmended == []


def test_a_source_with_such_a_file_is_refused_in_plain_words_and_runs_nothing(
    tmp_path: Path, parquet_file: Path, marker: Path
) -> None:
    project = make_project(tmp_path / "shop", file_url(parquet_file), {"orders": ORDERS}, format="parquet")
    with pytest.raises(ContractViolation) as refusal:
        ingest(project, tmp_path / "tables")
    assert str(refusal.value) == (
        "table orders: orders.parquet carries a pickled Python object (Arrow's type arrow.py_extension_type), which "
        "may run any code where it is opened (CVE-2023-47248). Nothing of it was run. Find out who wrote it, and have "
        "the column written as a plain type."
    )
    assert not (tmp_path / "tables").exists()
    assert not marker.exists()
