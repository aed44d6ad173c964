"""Catalogue of documents, from their own types: `python -m kfp_lifecycle.compilation.artifact_catalogue`.

Writes `docs/artifacts.md` and a JSON Schema for each document in `docs/schemas/`; a test fails when they are stale.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from kfp_lifecycle.artifacts.document import Document, Part
from kfp_lifecycle.runtime.closure import PACKAGE, ROOT

PAGE = ROOT / "docs" / "artifacts.md"
SCHEMAS = ROOT / "docs" / "schemas"

HEADER = """\
<!-- Written by `python -m kfp_lifecycle.compilation.artifact_catalogue`: change artifacts/, not this file. -->
# Documents of artifacts

The JSON documents that steps hand on, each written by one step and read by all others through one class of
`artifacts/`. `format` stands in each: a reader refuses another number, in words. Tables and models lie beside them;
what an artifact holds in all is in [components.md](components.md). A schema of each is in [schemas/](schemas/).
"""


def documents() -> dict[str, type[Document]]:
    """Every document, by the name of its class."""
    found: dict[str, type[Document]] = {}
    for file in sorted((ROOT / "artifacts").glob("*.py")):
        module = importlib.import_module(f"{PACKAGE}.artifacts.{file.stem}")
        found |= {
            name: item
            for name, item in vars(module).items()
            if inspect.isclass(item) and issubclass(item, Document) and item.__module__ == module.__name__
        }
    found.pop(Document.__name__, None)
    return found


def page() -> str:
    """The text of `docs/artifacts.md`."""
    lines = [HEADER]
    for name, document in sorted(documents().items(), key=lambda item: item[1].FILE):
        lines += [f"## {document.FILE}\n", f"{_sentences(document)} Written by `{document.WRITER}` (`{name}`).\n"]
        lines += _table(document)
        for part in parts_of(document):
            lines += [f"**{part.__name__}**: {_sentences(part)}\n", *_table(part)]
    return "\n".join(lines).rstrip() + "\n"


def schema_files() -> dict[str, str]:
    """The text of each schema by its file's name."""
    return {
        f"{document.FILE.removesuffix('.json')}.schema.json": document.schema_text()
        for document in documents().values()
    }


def _sentences(model: type[BaseModel]) -> str:
    return " ".join((inspect.getdoc(model) or "").split())


def _table(model: type[BaseModel]) -> list[str]:
    rows = ["| field | type | meaning |", "| --- | --- | --- |"]
    for name, field in model.model_fields.items():
        text = " ".join((field.description or "").split()).replace("|", "\\|")
        rows.append(f"| `{name}` | {_type(field.annotation)} | {text} |")
    return [*rows, ""]


def _type(annotation: Any) -> str:
    named = annotation.__name__ if inspect.isclass(annotation) and not get_args(annotation) else str(annotation)
    return f"`{re.sub(r'(typing|kfp_lifecycle[.][a-z_.]+|datetime)[.](?=[A-Za-z])', '', named).replace('|', 'or')}`"


def parts_of(model: type[BaseModel], known: set[type[BaseModel]] | None = None) -> Iterator[type[BaseModel]]:
    """The parts of a document that are documented with it, each once."""
    known = set() if known is None else known
    for field in model.model_fields.values():
        for part in _classes(field.annotation):
            if part not in known:
                known.add(part)
                yield part
                yield from parts_of(part, known)


def _classes(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and not get_args(annotation) and issubclass(annotation, Part):
        yield annotation
    for argument in get_args(annotation):
        yield from _classes(argument)


if __name__ == "__main__":
    SCHEMAS.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    for file, text in schema_files().items():
        (SCHEMAS / file).write_text(text, encoding="utf-8")
    print(PAGE.relative_to(ROOT), SCHEMAS.relative_to(ROOT))
