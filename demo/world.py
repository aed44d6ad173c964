"""The world that is demonstrated: a state folder of its own, the library's commands, and what they wrote."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from demo.story import SETTINGS, Story
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.locations import Locations, local_locations
from kfp_lifecycle.runtime.closure import ROOT
from kfp_lifecycle.serving.ports import port_pair
from kfp_lifecycle.serving.release.local.state import read_releases

# The variable that names the interpreter of the command line: steps of monitoring run in another environment.
COMMAND_LINE = "DEMO_COMMAND_LINE"
# Longest that a retraining which was started may take, whatever else the machine does.
PATIENCE_SECONDS = 3600.0
# What commands said, below the state folder.
SPOKEN = Path("demo", "commands.log")


class DemoFailed(Exception):
    """A command of the story failed; the message says which, and what it said."""


@dataclass(frozen=True)
class Trained:
    """A run of the training pipeline, and what became of its candidate."""

    name: str
    """As monitoring calls it; empty for the first."""
    state: str
    verdict: dict[str, Any]
    deployment: dict[str, Any]
    """Empty where nothing was released."""
    failed: str

    @property
    def lead(self) -> dict[str, Any]:
        """How it does beside the champion in what decides, `difference`, `low`, `high` among it; empty without one."""
        found: dict[str, Any] = next(iter((self.verdict.get("champion") or {}).get("comparisons") or []), {})
        return found


class World:
    """One business, one model that serves it, and the commands that look after both."""

    def __init__(self, story: Story, state: Path) -> None:
        """Name it; nothing is made yet.

        Args:
            story: What happens.
            state: The state folder, which is the demonstration's alone.
        """
        self.story, self.state = story, state
        self.database = state / "data" / "churn.duckdb"
        self.port = port_pair()
        url = f"source.url=duckdb:///{self.database}"
        self.settings = (*SETTINGS, *story.settings, url, f"deployment.http_port={self.port}")
        self.configuration: Configuration = load_configuration(ROOT, self.settings)
        self.locations: Locations = local_locations(state, self.configuration.name)
        self.model = self.configuration.deployment.model
        self.spoken = state / SPOKEN

    def begin(self) -> None:
        """Make the folder."""
        self.spoken.parent.mkdir(parents=True, exist_ok=True)
        self.spoken.touch()
        environments = self.state / "environments"
        if not environments.exists():
            environments.symlink_to(ROOT / ".lifecycle" / "environments")

    def command(self, *words: str) -> str:
        """Say a command of the library as a person would; returns what it prints.

        Raises:
            DemoFailed: it ended with another code than 0.
        """
        done = subprocess.run(
            [os.environ[COMMAND_LINE], "-m", "kfp_lifecycle.cli", *words],
            cwd=ROOT,
            env={**os.environ, "LIFECYCLE_STATE": str(self.state)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        with self.spoken.open("a", encoding="utf-8") as log:
            log.write(f"$ lifecycle {' '.join(words)}\n{done.stdout}{done.stderr}\n")
        if done.returncode:
            last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
            raise DemoFailed(f"`lifecycle {words[0]} {words[1] if len(words) > 1 else ''}` failed:\n{last}")
        return done.stdout

    def simulate(self, until: date, output: Path | None = None) -> None:
        """Bring the business's database to the night of a day: the rows of before, and those that came since."""
        story = self.story
        self.command(
            "simulate", "--output", str(output or self.database), "--customers", str(story.customers),
            "--days", str(story.history_days), "--seed", str(story.seed), "--end", f"{story.ends}",
            "--until", f"{until}", "--inject", f"price_rise@{story.price_rise}={story.rises_by}",
        )  # fmt: skip

    def run(self, pipeline: str, *parameters: str) -> str:
        """Run a whole pipeline of the project."""
        words = [f"--set={setting}" for setting in self.settings]
        words += [f"--parameter={parameter}" for parameter in parameters]
        return self.command("run", pipeline, "--target", "local", "--project", str(ROOT), *words)

    def roll_back(self, why: str) -> str:
        """Give all traffic to the version before; returns which that is."""
        self.command("rollback", self.model, "--why", why)
        [release] = [release for release in read_releases(self.state / "serving") if release.model == self.model]
        return release.version

    def down(self) -> None:
        """Stop the servers, and a retraining that is at work."""
        for record in self._records():
            if record["state"] == "running" and record["pipeline"] == "training":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(record["process"], 15)
        self.command("down")

    def retrainings(self) -> list[str]:
        """Names of the trainings that monitoring has started, the oldest first."""
        folder = self.state / "retraining"
        return sorted(file.stem for file in folder.glob("*.log")) if folder.is_dir() else []

    def wait_for(self, name: str, meanwhile: Callable[[], None]) -> Trained:
        """Wait for a training that monitoring has started.

        Args:
            name: Its name.
            meanwhile: Called again and again.

        Raises:
            DemoFailed: it failed, or does not come to its end.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            record = next((item for item in self._records() if item.get("name") == name), None)
            if record is not None and record["finished_at"] and record["report"]:
                found = self.trained(record)
                if found.state not in ("done", "rejected"):
                    raise DemoFailed(f"the training {name} is {found.state}: {found.failed}")
                return found
            meanwhile()
        raise DemoFailed(f"the training {name} did not end within {PATIENCE_SECONDS:.0f} s")

    def first_training(self) -> Trained:
        """The training that a person started."""
        return self.trained(next(item for item in self._records() if item["pipeline"] == "training"))

    def trained(self, record: dict[str, Any]) -> Trained:
        """What a run of training came to."""
        artifacts = self._artifacts(record["id"])

        def document(name: str) -> dict[str, Any]:
            return json.loads(artifacts[name].read_text("utf-8")) if name in artifacts else {}

        return Trained(
            name=record.get("name", ""),
            state=record["state"],
            verdict=document("verdict"),
            deployment=document("deployment"),
            failed=record.get("reason") or "",
        )

    def _artifacts(self, run: str) -> dict[str, Path]:
        found = {}
        for line in (self.state / "runs" / run / "events.jsonl").read_text("utf-8").splitlines():
            for name, artifact in json.loads(line).get("artifacts", {}).items():
                found[name] = Path(artifact["path"])
        return found

    def _records(self) -> list[dict[str, Any]]:
        found = [json.loads(file.read_text("utf-8")) for file in self.state.glob("runs/*/run.json")]
        return sorted(found, key=lambda record: record["number"])


@contextlib.contextmanager
def standing(world: World) -> Iterator[World]:
    """A world whose servers are gone with the block."""
    world.begin()
    try:
        yield world
    finally:
        world.down()
