"""`lifecycle config`: what may stand in `pipeline.yaml`, in words and as a JSON Schema."""

from __future__ import annotations

from typing import Annotated

import typer

from kfp_lifecycle.cli.console import out, refuse, write_json

config = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="What may stand in `pipeline.yaml`: each key explained, and the schema that editors complete from.",
)


@config.command()
def explain(
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="A key, dotted; by default all.")] = None,
) -> None:
    """Explain the keys of `pipeline.yaml`: what each means, its type and its default.

    Example: `lifecycle config explain training.costs`
    """
    from kfp_lifecycle.cli.explanation import explanation

    lines = explanation(key or "")
    if not lines:
        refuse(f"pipeline.yaml has no key {key!r}; `lifecycle config explain` lists them all")
    for name, kind, default, text in lines:
        out.print(f"[bold]{name}[/]  [dim]{kind}{default}[/]", soft_wrap=True)
        out.say(f"    {text}")


@config.command()
def schema() -> None:
    """Print the JSON Schema of `pipeline.yaml`, which editors complete and check from.

    Example: `lifecycle config schema > pipeline.schema.json`
    """
    from kfp_lifecycle.config.loading import configuration_schema

    write_json(configuration_schema())
