"""The play: what happens on each simulated Monday, and what is kept of it for the page."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from demo.looks import Mondays
from demo.money import FIRST, Money, churn_by_week, decisions, money
from demo.page import alarms, before, draw, first_alarm
from demo.record import Record
from demo.story import DAY, Story, morning
from demo.traffic import People, customers_of
from demo.world import DemoFailed, Trained, World, standing
from kfp_lifecycle.artifacts.remedy import Remedy
from kfp_lifecycle.monitoring.history import WindowRecord, read_history
from kfp_lifecycle.monitoring.retraining_policy import TRAINED, TrainingRun, decide
from kfp_lifecycle.runtime.outputs import write_whole
from kfp_lifecycle.runtime.states import RunState

Tell = Callable[[date | None, str], None]
# While a training is at work somebody asks so often, so that a release has people to judge by.
PAUSE_SECONDS = 0.05
REGULARS = 400


def play(story: Story, state: Path, tell: Tell) -> tuple[Record, Path]:
    """Let the story happen, and draw its page.

    Args:
        story: What happens.
        state: A state folder that is its own.
        tell: Told of each step.

    Returns:
        What happened, and the page.

    Raises:
        DemoFailed: a command failed.
        ContractViolation: a step of a quiet Monday refused.
    """
    with standing(World(story, state)) as world:
        whole = state / "demo" / "whole.duckdb"
        world.simulate(story.ends, whole)
        world.simulate(story.begins - DAY)
        customers = customers_of(whole)
        tell(None, f"a business in which {story.customers:,} customers sign up, as it stands that night")
        world.run("training")
        record = Record(world.first_training())
        if not record.first.deployment:
            raise DemoFailed(f"the first model is not released: {' '.join(record.first.verdict['sentences'])}")
        tell(story.begins, f"version 1 is live at http://127.0.0.1:{world.port}")
        people, mondays, begins = People(world), Mondays(world, whole), story.begins
        for monday in story.mondays:
            mondays.fill(begins)
            people.ask_for(begins, monday, customers)
            people.put_down()
            look_back(world, mondays, people, record, monday, tell)
            begins = monday
        made = decisions(world, people.answers, customers)
        earned = money(world, made, record.released) if record.released else None
        history = read_history(world.locations.tracking_uri, world.configuration.name, world.model)
        told = document(story, record, made, history, people.refused, earned)
        write_whole(state / "demo" / "story.json", json.dumps(told, indent=1))
        page = state / "demo" / "index.html"
        write_whole(
            page,
            draw(
                story, record, churn_by_week(story, customers), history, earned, len(people.answers), people.refused,
                world.configuration.training.costs,
            ),
        )  # fmt: skip
    return record, page


def document(
    story: Story,
    record: Record,
    made: pd.DataFrame,
    history: Sequence[WindowRecord],
    refused: int,
    earned: Money | None,
) -> dict[str, Any]:
    """What happened, for scripts."""
    alarm = first_alarm(history, story.price_rise)
    served = made["version"].value_counts().sort_index()
    return {
        "price_rise": f"{story.price_rise}",
        "false_alarms": sum(alarms(item) for item in history if before(item, story.price_rise)),
        "alarm": f"{alarm.end.date()}" if alarm else None,
        **record.document(),
        "answered_by": {
            "retrained": {version: int(count) for version, count in served.items()},
            "twin": {FIRST: len(made)},
        },
        "refused": refused,
        "earned": vars(earned.difference) if earned else None,
    }


def look_back(world: World, mondays: Mondays, people: People, record: Record, monday: date, tell: Tell) -> None:
    """Monitoring on a Monday, and what it leads to by itself."""
    found = mondays.look(monday)
    tell(monday, found.sentence)
    if found.remedy == "nothing":
        return
    rolled_back = found.remedy == "roll back"
    if not rolled_back and record.whole and (held := obstacle(world, record, found)):
        tell(monday, f"… {held}")
        return
    world.simulate(monday - DAY)
    before = world.retrainings()
    world.run("monitoring", f"as_of={morning(monday).isoformat()}")
    record.whole.append(monday)
    if rolled_back:
        version = world.roll_back(f"the window to {monday}: {found.verdict}")
        record.rolled_back.append((monday, version))
        tell(monday, f"… a person says `lifecycle rollback {world.model}`: version {version} answers")
        return
    started = [name for name in world.retrainings() if name not in before]
    if not started:
        tell(monday, f"… {obstacle(world, record, found) or 'nothing is started'}")
        return
    [name] = started
    tell(monday, f"… the training pipeline is started as {name}")
    trained = world.wait_for(name, busy(people, monday))
    people.put_down()
    record.retrained.append((monday, trained))
    tell(monday, told(trained))


def obstacle(world: World, record: Record, found: Remedy) -> str:
    """Why the project's policy starts nothing, as a whole run of monitoring would say; empty where it does."""
    if found.remedy not in TRAINED:
        return f"nothing is started: it is to {found.remedy}"
    settings = world.configuration
    runs = [TrainingRun(trained.name, RunState(trained.state)) for _, trained in record.retrained]
    decided = decide(settings.monitoring.retraining, found, runs, datetime.now(UTC), settings.label.horizon_days)
    return decided.sentence if decided.action == "hold" else ""


def busy(people: People, monday: date) -> Callable[[], None]:
    """People who ask while a training is at work, the newest ones again and again."""
    regulars = itertools.cycle([answer.customer for answer in people.answers[-REGULARS:]])
    moments = (morning(monday) + number * timedelta(seconds=1) for number in itertools.count())

    def ask() -> None:
        people.ask(next(regulars), next(moments))
        time.sleep(PAUSE_SECONDS)

    return ask


def told(trained: Trained) -> str:
    """What became of a candidate, in a sentence."""
    if trained.deployment:
        stages = ", ".join(f"{step['percent']}%" for step in trained.deployment["steps"])
        return f"… approved, and released by {stages}: version {trained.deployment['version']} answers"
    champion = trained.verdict.get("champion") or {}
    return f"… rejected: {champion.get('sentence') or trained.verdict['sentences'][0]}"
