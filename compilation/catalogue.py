"""Every component in one list, from its own signature and docstring: `python -m kfp_lifecycle.compilation.catalogue`.

Writes `docs/components.md`; a test fails when that file is stale.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from docstring_parser import Docstring, DocstringStyle, parse
from kfp.dsl.base_component import BaseComponent

from kfp_lifecycle.compilation.builder import build
from kfp_lifecycle.compilation.pipeline import components
from kfp_lifecycle.compilation.target import Target
from kfp_lifecycle.config.locations import variable
from kfp_lifecycle.runtime.component import LifecycleComponent

ROOT = Path(__file__).resolve().parent.parent
CATALOGUE = ROOT / "docs" / "components.md"

HEADER = """\
<!-- Written by `python -m kfp_lifecycle.compilation.catalogue`: change the docstrings, not this file. -->
# Components

What each step takes and gives. "Cached" steps are not run again where code, inputs and environment are the same;
the others have an effect outside their outputs, or read something that their inputs do not name. Formats are in
[artifacts.md](artifacts.md); how one is used in a pipeline of your own, in
[examples/compose](../examples/compose/README.md).
"""


def catalogue() -> str:
    """The text of `docs/components.md`: components by folder, each with inputs, outputs and parameters."""
    found = sorted(components().values(), key=lambda item: (folder_of(item), item.name))
    lines = [HEADER]
    for folder, members in groupby(found, folder_of):
        lines.append(f"## {folder}\n")
        for member in members:
            lines += described(member)
    return "\n".join(lines).rstrip() + "\n"


def folder_of(item: LifecycleComponent) -> str:
    """The step of the life that a component belongs to: the folder below `components/`."""
    return item.module.split(".")[2]


def described(item: LifecycleComponent) -> Iterator[str]:
    """Lines of Markdown about one component."""
    documented = parse(inspect.getdoc(item.function) or "", style=DocstringStyle.GOOGLE)
    yield f"### {item.name}\n"
    yield f"{documented.short_description}\n"
    if documented.long_description:
        yield f"{documented.long_description}\n"
    yield f"Environment `{item.environment}`, {'cached' if item.cached else 'not cached'}.\n"
    yield "| | name | type | meaning |"
    yield "| --- | --- | --- | --- |"
    built = build(item, Target("kubeflow", "image"))
    yield from rows(built, documented)
    yield f"\nAlone: `{call_of(item, built)}`"
    if item.reads:
        yield f"with the settings {', '.join(f'`{name}`' for name in sorted(item.reads))}"
    if item.locations:
        told = ", ".join(f"`{variable(name)}`" for name in sorted(item.locations))
        yield f"and the variables {told} (`task.set_env_variable`)"
    yield ""


def call_of(item: LifecycleComponent, built: BaseComponent) -> str:
    """How the component is called in a pipeline of one's own, with what it cannot do without."""
    inputs = built.component_spec.inputs or {}
    needed = [name for name, port in inputs.items() if not port.optional and name != "status"]
    arguments = ["settings={…}" if name == "settings" else f"{name}=…" for name in needed]
    return f"{item.name}({', '.join(arguments)})"


def rows(built: BaseComponent, documented: Docstring) -> Iterator[str]:
    """Table rows for the inputs and outputs of a compiled component.

    Raises:
        ValueError: the docstring does not explain one of them.
    """
    texts = {parameter.arg_name: parameter.description for parameter in documented.params}
    if documented.returns is not None:
        texts["Output"] = documented.returns.description
    spec = built.component_spec
    for direction, ports in (("in", spec.inputs or {}), ("out", spec.outputs or {})):
        for name, port in ports.items():
            text = texts.get(name)
            if not text:
                raise ValueError(f"{built.name}: its docstring does not explain `{name}`")
            yield f"| {direction} | `{name}` | {described_type(port)} | {cell(text)} |"


def described_type(port: Any) -> str:
    """A port's type in a few letters, with its default where it has one."""
    name = str(port.type).removeprefix("system.").partition("@")[0]
    if not getattr(port, "optional", False):
        return name
    return f"{name}, optional" if port.default in (None, "") else f"{name}, default `{port.default}`"


def cell(text: str) -> str:
    """Text that fits one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    CATALOGUE.write_text(catalogue(), encoding="utf-8")
    print(CATALOGUE.relative_to(ROOT))
