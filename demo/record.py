"""What happened in the story, for whoever tells it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any

from demo.world import Trained


@dataclass
class Record:
    """What the library did by itself."""

    first: Trained
    """Which a person started."""
    retrained: list[tuple[date, Trained]] = field(default_factory=list)
    """By the Monday whose look asked for it."""
    whole: list[date] = field(default_factory=list)
    """Mondays with a whole run of monitoring."""
    rolled_back: list[tuple[date, str]] = field(default_factory=list)
    """Mondays on which a person rolled back, as monitoring asked for, and to which version."""

    @property
    def release(self) -> Trained | None:
        """The first retraining whose candidate took over."""
        return next((trained for _, trained in self.retrained if trained.deployment), None)

    @property
    def released(self) -> date | None:
        """The Monday on which it did."""
        return next((monday for monday, trained in self.retrained if trained.deployment), None)

    def document(self) -> dict[str, Any]:
        """What happened, for scripts."""
        return {
            "first": self.first.deployment["version"],
            "rolled_back": [{"monday": f"{monday}", "to": version} for monday, version in self.rolled_back],
            "whole_runs": [f"{monday}" for monday in self.whole],
            "retrained": [
                {
                    "monday": f"{monday}",
                    "run": trained.name,
                    "decision": trained.verdict["decision"],
                    "lead": trained.lead,
                    "released": trained.deployment.get("version"),
                    "steps": trained.deployment.get("steps", []),
                }
                for monday, trained in self.retrained
            ],
        }
