"""A real MLflow tracking server over HTTP that can be told to die at a request."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kfp_lifecycle.serving.ports import free_ports

# A server takes seconds to import: it is forked from a process that has done so, not from this one, whose threads a
# fork would wait for in vain.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["mlflow.server"])


@contextlib.contextmanager
def mlflow_server(state: Path, dies_at: int = 0) -> Iterator[str]:
    """Serve what is kept in `state`.

    Args:
        state: Folder of the database and the files; a later server goes on with them.
        dies_at: The process exits, without a word, when this request comes; 0 never.

    Yields:
        The tracking URI. `<state>/requests` holds a line for each request.
    """
    state.mkdir(parents=True, exist_ok=True)
    (state / "requests").write_text("")
    port = _port(state)
    process = _FORKS.Process(target=_serve, args=(state, port, dies_at), daemon=True)
    process.start()
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.join()


def _port(state: Path) -> int:
    """A free port, the same for the same state: MLflow writes its own address into what it keeps."""
    file = state / "port"
    if not file.exists():
        file.write_text(str(*free_ports(1)))
    return int(file.read_text())


def _serve(state: Path, port: int, dies_at: int) -> None:
    os.environ |= {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{state / 'mlflow.db'}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(state / "files"),
    }
    from mlflow.server import app
    from werkzeug.serving import make_server

    seen = 0

    def counting(environment: dict[str, Any], respond: Any) -> Iterable[bytes]:
        nonlocal seen
        seen += 1
        if seen == dies_at:
            os._exit(1)
        with (state / "requests").open("a") as log:
            log.write(f"{environment['REQUEST_METHOD']} {environment['PATH_INFO']}\n")
        answer: Iterable[bytes] = app.wsgi_app(environment, respond)
        return answer

    make_server("127.0.0.1", port, counting).serve_forever()


def _wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"no server at port {port}")
