"""Process manager of a serving folder: one supervisord keeps servers and Envoys running, detached from who began it.

Its whole configuration is one file, readable by its owner alone, since it holds the password of the control port, and
the secrets that programs get as variables: a server that was killed, or is started after a reboot, needs them again.
Paths in it are relative to the folder, so that no character of the folder's own path means anything there.
"""

from __future__ import annotations

import configparser
import contextlib
import http.client
import os
import secrets
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.client import SHADOW_TOKEN_FILE_VARIABLE
from kfp_lifecycle.serving.ports import LOOPBACK, free_ports
from kfp_lifecycle.serving.release.local import adoption, log_rotation
from kfp_lifecycle.serving.release.local.adoption import living
from kfp_lifecycle.serving.release.local.shadow import shadow_token, shadow_token_file

FOLDER = "supervisor"
# A server finishes what it is answering within 10 seconds.
STOP_SECONDS = 15
# On a busy machine whose disk is cold.
START_SECONDS = 120.0
ROTATION = "log-rotation"
UP = ("STARTING", "RUNNING")
GIVEN_UP = ("BACKOFF", "FATAL", "EXITED", "UNKNOWN")
# Each program starts through it. `-I`: the modules beside it are nobody's to import.
ADOPTION = (sys.executable, "-I", adoption.__file__)
# What follows an interpreter, `-I` and a file of this library in a command.
STARTER = slice(3, None)
# What a server may know of the environment of the run that started it.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE")


@dataclass(frozen=True)
class Program:
    """A process to keep running."""

    name: str
    command: Sequence[str]
    directory: str
    """Where it runs, relative to the serving folder."""
    variables: Sequence[str] = ()
    """Names of the variables with its secrets."""


class Supervisor:
    """The supervisord of one folder, running or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.configuration = self.folder / FOLDER / "supervisord.conf"

    def apply(self, programs: Sequence[Program]) -> None:
        """Make exactly these programs run: new ones start, changed ones restart, others stop.

        Raises:
            ContractViolation: supervisord does not start.
        """
        logs = self.folder / FOLDER / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        if not self.is_running():
            self.end_orphans(kept=programs)
            self._write(programs, port=free_ports(1)[0], password=secrets.token_hex(24))
            self._start()
            return
        port, password = self._access()
        self._write(programs, port, password)
        remote = self._remote()
        ((added, changed, removed),) = remote.supervisor.reloadConfig()
        for name in [*removed, *changed]:
            remote.supervisor.stopProcessGroup(name)
            remote.supervisor.removeProcessGroup(name)
        for name in [*changed, *added]:
            remote.supervisor.addProcessGroup(name)
        for name, state in self.states().items():
            if state in ("FATAL", "EXITED", "STOPPED"):
                remote.supervisor.startProcess(name, False)

    def states(self) -> dict[str, str]:
        """Each program's state in supervisord's words; empty when it is not running."""
        with contextlib.suppress(OSError, http.client.HTTPException, configparser.Error, xmlrpc.client.Error):
            found = self._remote().supervisor.getAllProcessInfo()
            return {item["name"]: item["statename"] for item in found if item["name"] != ROTATION}
        return {}

    def is_running(self) -> bool:
        """Whether it answers to our password."""
        with contextlib.suppress(OSError, http.client.HTTPException, configparser.Error, xmlrpc.client.Error):
            return bool(self._remote().supervisor.getState()["statename"] == "RUNNING")
        return False

    def stop(self) -> bool:
        """Stop everything, also what a killed supervisord left behind.

        Returns:
            Whether anything was running.
        """
        processes = list(self._processes())
        if self.is_running():
            self._remote().supervisor.shutdown()
            psutil.wait_procs(processes, timeout=STOP_SECONDS + 5)
        self.end_orphans()
        return bool(processes)

    def log_tail(self, name: str, lines: int = 15) -> str:
        """The last lines a program wrote."""
        file = self.folder / FOLDER / "logs" / f"{name}.log"
        return "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.is_file() else ""

    def end_orphans(self, kept: Sequence[Program] = ()) -> None:
        """End processes that a killed supervisord left behind; a running one keeps its own.

        Args:
            kept: Programs whose processes are to go on: the next supervisord looks after them.
        """
        if self.is_running():
            return
        commands = [list(program.command) for program in kept]
        processes = [process for process in self._processes() if process.info["cmdline"] not in commands]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=STOP_SECONDS)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=5)

    def is_up(self, program: Program) -> bool:
        """Whether a program runs, or is being started; be it that its supervisord was killed."""
        if self.is_running():
            return self.states().get(program.name) in UP
        return living(program.command) is not None

    def _processes(self) -> Iterator[psutil.Process]:
        """This folder's processes, known by an argument of their command that is a path in it."""
        markers = {"-c", "--model_dir"}
        inside = f"{self.folder}{os.sep}"
        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or []
            if any(a in markers and b.startswith(inside) for a, b in pairwise(command)):
                yield process

    def _secrets(self, program: Program) -> dict[str, str]:
        """Values of a program's variables: those that it runs with, since others would start it anew; else those of
        whoever starts it; else what another program was given."""
        kept = self._kept()
        own = {**kept.get(program.name, {}), **({} if self.is_running() else os.environ)}
        others = {name: value for variables in kept.values() for name, value in variables.items()}
        known = {**others, **os.environ, **own}
        return {name: known[name] for name in program.variables if name in known}

    def _kept(self) -> dict[str, dict[str, str]]:
        """The secrets that programs were given, by the program's name."""
        parser = configparser.RawConfigParser()
        parser.read(self.configuration, encoding="utf-8")
        return {
            section.removeprefix("program:"): adoption.unpacked(parser[section]["environment"].split('"')[1])
            for section in parser.sections()
            if "environment" in parser[section]
        }

    def _access(self) -> tuple[int, str]:
        parser = configparser.RawConfigParser()
        with self.configuration.open(encoding="utf-8") as file:
            parser.read_file(file)
        section = parser["inet_http_server"]
        return int(section["port"].rpartition(":")[2]), section["password"]

    def _remote(self) -> Any:
        port, password = self._access()
        return xmlrpc.client.ServerProxy(f"http://lifecycle:{password}@{LOOPBACK}:{port}/RPC2", transport=Timely())

    def _start(self) -> None:
        command = [sys.executable, "-I", "-m", "supervisor.supervisord", "-c", str(self.configuration)]
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        shadow_token(self.folder)
        environment[SHADOW_TOKEN_FILE_VARIABLE] = str(shadow_token_file(self.folder))
        # A step's own folder for temporary files ends with the step; the servers stay.
        temporary = self.folder / FOLDER / "tmp"
        temporary.mkdir(exist_ok=True)
        environment["TMPDIR"] = str(temporary)
        started = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            start_new_session=True,
            preexec_fn=take_usual_priority,
        )
        deadline = time.monotonic() + START_SECONDS
        while started.returncode == 0 and time.monotonic() < deadline:
            if self.is_running():
                self._tell_priority()
                return
            time.sleep(0.05)
        raise ContractViolation(
            f"the process manager of {self.folder} does not start: {started.stdout.strip() or 'it does not answer'}. "
            f"Its log is {self.folder / FOLDER / 'supervisord.log'}."
        )

    def _tell_priority(self) -> None:
        identifier = int((self.folder / FOLDER / "supervisord.pid").read_text("utf-8"))
        niceness = os.getpriority(os.PRIO_PROCESS, identifier)
        if niceness > 0:
            print(
                f"The servers of {self.folder} run at niceness {niceness}, as what released them does, since only root "
                "may raise a priority. Stop them with `lifecycle down` and start them without nice: lifecycle serve",
                file=sys.stderr,
                flush=True,
            )

    def _write(self, programs: Sequence[Program], port: int, password: str) -> None:
        told = {program.name: self._secrets(program) for program in programs}
        wanted = sections(programs, port, password, self.folder / FOLDER / "logs", told)
        if self.is_running():
            self._start_as_before(wanted)
        parser = configparser.RawConfigParser()
        parser.read_dict(wanted)
        temporary = self.configuration.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        with open(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
            parser.write(file)
        temporary.replace(self.configuration)

    def _start_as_before(self, wanted: Mapping[str, dict[str, str]]) -> None:
        """Leave a command as it stands that differs in nothing but the copy of this library that starts it: another
        version of the code, or another command of it, is no reason to stop what answers people."""
        parser = configparser.RawConfigParser()
        parser.read(self.configuration, encoding="utf-8")
        for section, options in wanted.items():
            before = shlex.split(parser.get(section, "command", fallback=""))
            now = shlex.split(options.get("command", ""))
            if before and before[STARTER] == now[STARTER] and Path(before[2]).is_file():
                options["command"] = parser.get(section, "command")


def take_usual_priority() -> None:
    """Servers outlive the run that starts them, and people wait for them: they do not inherit its niceness.

    Where the system allows no process to raise its priority, it stays.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)


class Timely(xmlrpc.client.Transport):
    """A transport that gives up on a supervisord that hangs."""

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """The connection, with a time limit longer than a program may take to stop."""
        connection = super().make_connection(host)
        connection.timeout = STOP_SECONDS * 4
        return connection


def sections(
    programs: Sequence[Program], port: int, password: str, logs: Path, told: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    """supervisord's configuration; `told` are variables by the program's name."""
    found: dict[str, dict[str, str]] = {
        "supervisord": {
            "logfile": f"{FOLDER}/supervisord.log",
            "logfile_maxbytes": "1MB",
            "logfile_backups": "1",
            "pidfile": f"{FOLDER}/supervisord.pid",
            "childlogdir": f"{FOLDER}/logs",
            "umask": "077",
        },
        "inet_http_server": {"port": f"{LOOPBACK}:{port}", "username": "lifecycle", "password": password},
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
    }
    rotation = [sys.executable, "-I", log_rotation.__file__, str(logs)]
    found[f"eventlistener:{ROTATION}"] = {
        "command": " ".join(map(quoted, rotation)),
        "events": "TICK_60",
        "stderr_logfile": f"{FOLDER}/{ROTATION}.log",
        "stderr_logfile_maxbytes": "1MB",
    }
    for program in programs:
        log = str(logs / f"{program.name}.log")
        found[f"program:{program.name}"] = {
            "command": " ".join(quoted(argument) for argument in [*ADOPTION, log, *program.command]),
            "directory": program.directory,
            "autorestart": "true",
            "startsecs": "3",
            "startretries": "10",
            "stopwaitsecs": str(STOP_SECONDS),
            "stopasgroup": "true",
            "killasgroup": "true",
            "stdout_logfile": "NONE",
            "stderr_logfile": "NONE",
        }
        if told.get(program.name):
            environment = f'{adoption.VARIABLES}="{adoption.packed(told[program.name])}"'
            found[f"program:{program.name}"]["environment"] = environment
    return found


def quoted(argument: str) -> str:
    """An argument as supervisord's `command` reads it back, whatever is in it.

    Raises:
        ContractViolation: it holds a line break, which that file cannot.
    """
    if "\n" in argument or "\r" in argument:
        raise ContractViolation(f"{argument!r} holds a line break; servers cannot be kept there. Rename the folder.")
    # The file's own comments begin with a blank and one of these, quoted or not.
    text = shlex.quote(argument).replace(" ;", " '';").replace(" #", " ''#")
    return text.replace("%", "%%")
