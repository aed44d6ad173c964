"""Configuration of lineage events: who is told what runs and their steps read and write."""

from __future__ import annotations

from typing import Annotated

from kfp_lifecycle.config.locations import located
from kfp_lifecycle.config.section import Section


class Lineage(Section):
    """OpenLineage events of runs: here while they go on, of a cluster's by whoever watches one to its end."""

    url: Annotated[
        str,
        located(
            r"(https?://[^\s@]+|file:///.+)?",
            "events go to a receiver, https://HOST or http://HOST:PORT, or a file, file:///PATH. A key stands in the "
            "variable OPENLINEAGE_API_KEY, never here",
        ),
    ] = ""
    """Who receives them, in OpenLineage's standard form: a server such as Marquez or DataHub, by its address without
    `/api/v1/lineage`, or a file, `file:///PATH`, to which lines are added. Empty: nobody. A receiver that is down or
    slow changes nothing about a run."""
