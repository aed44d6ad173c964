"""`lifecycle dashboard`: how a project's models are, live on one page, for Prometheus, and as Grafana's dashboards."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kfp_lifecycle.cli.console import EXIT_FAILED, Project, Settings, err, out, project_folder, refuse
from kfp_lifecycle.cli.targets import OnTarget, backend_for, plain_refusals
from kfp_lifecycle.monitoring.scrape_targets import FRONTS, PORT, SERVERS, TARGETS_PATH, discovered
from kfp_lifecycle.serving.ports import LOOPBACK

if TYPE_CHECKING:
    from kfp_lifecycle.cli.standing import Known
    from kfp_lifecycle.config.alerts import Alerts
    from kfp_lifecycle.monitoring.dashboards.server import Answer
    from kfp_lifecycle.monitoring.dashboards.sources import Source

PROMETHEUS = f"http://{LOOPBACK}:9090"


class Reader(StrEnum):
    """Who shows it."""

    here = "here"
    grafana = "grafana"
    operator = "operator"


def dashboard(
    reader: Annotated[
        Reader,
        typer.Option(
            "--for",
            help="`here`: a page on this machine. `grafana`: the dashboards' JSON, a file each, in `--output`. "
            "`operator`: a ConfigMap that Grafana's sidecar finds.",
        ),
    ] = Reader.here,
    output: Annotated[Path | None, typer.Option("--output", metavar="FOLDER", help="Where `grafana` writes.")] = None,
    port: Annotated[int, typer.Option("--port", min=1024, max=65535, help="Where the page is served.")] = PORT,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="Where it listens. Anything but this machine alone is for a pod that Prometheus reads: it asks nobody "
            "who they are.",
        ),
    ] = LOOPBACK,
    prometheus: Annotated[
        str | None,
        typer.Option(
            "--prometheus",
            metavar="URL",
            help=f"The Prometheus that is asked; by default {PROMETHEUS}, and where it does not watch this project, "
            "servers and fronts themselves, with the last hour kept in memory.",
        ),
    ] = None,
    every: Annotated[int, typer.Option("--every", min=1, help="Seconds between two looks.")] = 5,
    target: OnTarget = None,
    project: Project = None,
    settings: Settings = None,
) -> None:
    """Show how a project's models are: service, model and business, alerts, releases, what monitoring found.

    It serves the page until Ctrl-C, tells Prometheus of runs and releases at `/metrics`, and tells it where servers and
    fronts are.

    Example: `lifecycle dashboard`

    Example: `lifecycle dashboard --for grafana --output dashboards`

    Exit codes: 0 written, or ended by Ctrl-C, 1 the port is taken, 2 the project is wrong.
    """
    from kfp_lifecycle.config.loading import load_configuration

    configuration = load_configuration(project_folder(project), settings or [])
    if reader is not Reader.here:
        _write(reader, configuration.alerts, output)
        return

    from kfp_lifecycle.cli.outcome import serving_folder
    from kfp_lifecycle.cli.standing import Known, window_history
    from kfp_lifecycle.monitoring.dashboards.server import dashboard_server
    from kfp_lifecycle.monitoring.dashboards.sources import OwnMemory, Prometheus

    with plain_refusals():
        backend = backend_for(target, project)
        serving = serving_folder() if backend.target == "local" else None
        known = Known(configuration, backend, serving, window_history(configuration, backend.target))
        known.metrics()
    stopped = threading.Event()
    asked = Prometheus(prometheus or PROMETHEUS)
    if prometheus is not None and not asked.watches():
        refuse(
            f"Prometheus at {prometheus} does not answer, or reads nothing of this library: "
            "`lifecycle alerts --for scrape` writes a configuration for it"
        )
    memory = OwnMemory(known.targets, known.metrics, every)

    def source() -> Source:
        """Prometheus as soon as it watches."""
        return asked if asked.watches() else memory

    try:
        server = dashboard_server(port, answers(known, source, configuration.alerts, every), host)
    except OSError as error:
        err.say(f"error: port {port} cannot be had ({error.strerror}): name another with --port")
        raise typer.Exit(EXIT_FAILED) from None
    memory.look()
    looking = threading.Thread(target=memory.watch, args=(stopped,), daemon=True)
    looking.start()
    out.say(f"http://{host}:{port}  from {source().name}; Ctrl-C ends it")
    try:
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    finally:
        stopped.set()
        server.server_close()


def answers(known: Known, source: Callable[[], Source], alerts: Alerts, seconds: int) -> dict[str, Answer]:
    """What is served, by path: the page, what Prometheus reads, and where it finds the rest."""
    from prometheus_client import CollectorRegistry

    from kfp_lifecycle.monitoring.dashboards.page import page, parts
    from kfp_lifecycle.monitoring.dashboards.server import HTML, Answer, document, metrics, script
    from kfp_lifecycle.serving.server.metrics_page import metrics_page

    def own() -> bytes:
        registry = CollectorRegistry()
        registry.register(known.metrics())
        return metrics_page(registry)

    return {
        "/": Answer(HTML, lambda: page(known.standing(), source(), alerts, seconds)),
        "/parts": Answer(HTML, lambda: parts(known.standing(), source(), alerts)),
        "/dashboard.js": script(),
        "/monitoring": Answer(HTML, known.monitoring_page),
        "/metrics": metrics(own),
        f"{TARGETS_PATH}{SERVERS}": document(lambda: discovered(known.targets(), SERVERS)),
        f"{TARGETS_PATH}{FRONTS}": document(lambda: discovered(known.targets(), FRONTS)),
    }


def _write(reader: Reader, alerts: Alerts, output: Path | None) -> None:
    import json

    import yaml

    from kfp_lifecycle.monitoring.dashboards.grafana import config_map, grafana_dashboards

    if reader is Reader.operator:
        sys.stdout.write(yaml.safe_dump(config_map(alerts), sort_keys=False, allow_unicode=True, width=1000))
        return
    if output is None:
        refuse("name the folder that the dashboards are written to: --output FOLDER")
    output.mkdir(parents=True, exist_ok=True)
    for name, model in grafana_dashboards(alerts).items():
        file = output / f"{name}.json"
        file.write_text(json.dumps(model, indent=1, ensure_ascii=False) + "\n", "utf-8")
        out.say(str(file))
