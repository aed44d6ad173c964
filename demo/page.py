"""Page of the story: five pictures and the money, whatever came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path

from demo.money import Money
from demo.record import Record
from demo.story import Story
from kfp_lifecycle.artifacts.deployment import ReleaseStep
from kfp_lifecycle.components.monitoring.decide_remedy.trends import TONES
from kfp_lifecycle.config.training import Costs
from kfp_lifecycle.monitoring.history import WindowRecord
from kfp_lifecycle.reports.charts import Chart, Mark, Point, Scale
from kfp_lifecycle.reports.formatting import number
from kfp_lifecycle.reports.templates import KeyFigure, templates


@dataclass(frozen=True)
class Candidate:
    """A candidate's lead over the champion by value, with its interval on the picture's scale, in percent."""

    monday: date
    decision: str
    sentence: str
    lead: str
    value: float | None = None
    left: float | None = None
    width: float | None = None


def draw(
    story: Story,
    record: Record,
    churn: Sequence[tuple[date, float]],
    history: Sequence[WindowRecord],
    money: Money | None,
    answered: int,
    refused: int,
    costs: Costs,
) -> str:
    """The page as one HTML document without scripts that needs no network.

    Args:
        story: What was to happen.
        record: What happened.
        churn: By Monday the share that left within the horizon.
        history: What monitoring found, oldest first.
        money: What both worlds' decisions were worth since the release; None without one, or without an outcome since.
        answered: Requests.
        refused: Requests that got no answer.
        costs: What decisions are worth.
    """
    alarm = first_alarm(history, story.price_rise)
    candidates, zero = compared(record)
    steps = [ReleaseStep.model_validate(step) for step in record.release.deployment["steps"]] if record.release else []
    word, tone, sentence = verdict(record, money)
    return (
        templates(Path(__file__).parent)
        .get_template("page.html.j2")
        .render(
            story=story,
            record=record,
            word=word,
            tone=tone,
            sentence=sentence,
            figures=figures(story, record, history, alarm, money, answered, refused),
            business=business(story, record, churn),
            monitored=monitored(story, record, history, alarm),
            alarm=alarm,
            quiet=[item for item in history if before(item, story.price_rise)],
            moved=[item for item in history if before(item, story.price_rise) and item.verdict == "world moved"],
            false_alarms=[item for item in history if before(item, story.price_rise) and alarms(item)],
            candidates=candidates,
            zero=zero,
            steps=steps,
            later=later_turns(record),
            money=money,
            costs=costs,
            worth=worth(money, record.released) if money and record.released else None,
        )
    )


def before(item: WindowRecord, day: date) -> bool:
    """Whether a window ended before a day was over."""
    return item.end.date() <= day


def alarms(item: WindowRecord) -> bool:
    """Whether a window asks for something to be done."""
    return item.remedy != "nothing"


def first_alarm(history: Sequence[WindowRecord], rise: date) -> WindowRecord | None:
    """The first window after the price rise that asks for something to be done."""
    return next((item for item in history if not before(item, rise) and alarms(item)), None)


def verdict(record: Record, money: Money | None) -> tuple[str, str, str]:
    """Whether it paid: a word, a tone, a sentence."""
    if record.released is None:
        count = len(record.retrained)
        tried = f"{count} candidate{'s were' if count != 1 else ' was'} trained" if count else "nothing was trained"
        return "not released", "warning", f"No better model came of it: {tried}, and version 1 went on serving."
    if money is None:
        return "not known", "waiting", "A better model was released, and no outcome is known since: ask again later."
    found = money.difference
    what = (
        f"{found.value:+,.0f} {money.currency} (95% {found.low:+,.0f} to {found.high:+,.0f}) beside the twin world, "
        f"which nobody retrained, in {money.predictions:,} predictions since the release"
    )
    if found.low > 0:
        return "it paid", "passed", f"Retraining paid: {what}."
    if found.high < 0:
        return "it did not pay", "failed", f"Retraining cost money: {what}."
    return "not shown", "warning", f"That retraining paid is not shown: {what}. It may be chance."


def figures(
    story: Story,
    record: Record,
    history: Sequence[WindowRecord],
    alarm: WindowRecord | None,
    money: Money | None,
    answered: int,
    refused: int,
) -> list[KeyFigure]:
    """The few numbers that a reader wants first."""
    quiet = [item for item in history if before(item, story.price_rise)]
    false = sum(alarms(item) for item in quiet)
    found = [
        KeyFigure("Requests answered", number(answered), f"{refused:,} refused, in {len(history)} weeks"),
        KeyFigure("False alarms", number(false), f"in {len(quiet)} weeks before prices rose"),
    ]
    if alarm is not None:
        days = (alarm.end.date() - story.price_rise).days
        found.append(KeyFigure("Noticed after", f"{days} days", f"on {alarm.end:%-d %B %Y}"))
    if record.released is not None:
        days = (record.released - story.price_rise).days
        found.append(KeyFigure("Better model after", f"{days} days", f"{len(record.retrained)} trained"))
    if money is not None:
        found.append(
            KeyFigure(
                f"Worth, {money.currency}",
                f"{money.difference.value:+,.0f}",
                f"95%: {money.difference.low:+,.0f} to {money.difference.high:+,.0f}",
            )
        )
    return found


def business(story: Story, record: Record, churn: Sequence[tuple[date, float]]) -> Chart:
    """The share of customers who leave."""
    moments, shares = [_at(day) for day, _ in churn], [share for _, share in churn]
    place = Scale([_at(story.begins), _at(story.ends)], shares, True)
    points = [
        Point(place.x(at), place.y(share), f"{at:%-d %b %Y}: {share:.1%}")
        for at, share in zip(moments, shares, strict=True)
    ]
    return Chart(
        title="Share of customers who leave within 30 days, by week",
        low=f"{place.low:.0%}",
        high=f"{place.high:.0%}",
        first=f"{story.begins:%-d %b %Y}",
        last=f"{story.ends:%-d %b %Y}",
        points=points,
        marks=marks(place, story, record, None),
    )


def monitored(story: Story, record: Record, history: Sequence[WindowRecord], alarm: WindowRecord | None) -> Chart:
    """Events of each week beside those foretold, in the colour of the verdict."""
    weeks = [item for item in history if item.observed is not None and item.expected is not None]
    values = [float(value) for item in weeks for value in (item.observed or 0, item.expected or 0.0)]
    place = Scale([_at(story.begins), _at(story.ends)], values or [0.0, 1.0], True)
    return Chart(
        title="Customers who left in each week, of those asked about",
        low=number(place.low),
        high=number(place.high),
        first=f"{story.begins:%-d %b %Y}",
        last=f"{story.ends:%-d %b %Y}",
        points=[
            Point(
                place.x(item.end),
                place.y(float(item.observed or 0)),
                f"{item.end:%-d %b}: {item.observed} left, {item.expected:,.1f} foretold, {item.verdict}",
                TONES.get(item.verdict, "waiting"),
            )
            for item in weeks
        ],
        beside=[Point(place.x(item.end), place.y(item.expected or 0.0)) for item in weeks],
        marks=marks(place, story, record, alarm),
    )


def marks(place: Scale, story: Story, record: Record, alarm: WindowRecord | None) -> list[Mark]:
    """The days that everything turns on."""
    found = [(_at(story.price_rise), "prices rise")]
    if alarm is not None:
        found.append((alarm.end, "alarm"))
    found += [
        (_at(monday), f"version {trained.deployment['version']}")
        for monday, trained in record.retrained
        if trained.deployment
    ]
    found += [(_at(monday), f"back to {version}") for monday, version in record.rolled_back]
    return place.marks(sorted(found))


def later_turns(record: Record) -> list[str]:
    """What took over after the first release, each in a sentence, in their order."""
    released = [(monday, trained) for monday, trained in record.retrained if trained.deployment]
    turns = [
        (monday, f"Version {trained.deployment['version']} took over on {monday:%-d %B %Y}.")
        for monday, trained in released[1:]
    ]
    turns += [
        (monday, f"On {monday:%-d %B %Y} a person rolled back to version {version}, as monitoring asked.")
        for monday, version in record.rolled_back
    ]
    return [sentence for _, sentence in sorted(turns)]


def compared(record: Record) -> tuple[list[Candidate], float | None]:
    """Each candidate's lead by value on one scale, and where nothing is gained."""
    leads = []
    for monday, trained in record.retrained:
        leads.append((monday, trained, trained.lead))
    numbers: list[float] = [
        lead[key] for _, _, lead in leads for key in ("low", "high") if lead.get(key) is not None
    ] + [0.0]
    low, high = min(numbers), max(numbers)
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return 4 + 92 * (value - low) / span

    found = []
    for monday, trained, lead in leads:
        known = lead.get("difference") is not None
        found.append(
            Candidate(
                monday=monday,
                decision=trained.verdict.get("decision", trained.state),
                sentence=(trained.verdict.get("champion") or {}).get("sentence", ""),
                lead=f"{lead['difference']:+,.0f} (95% {lead['low']:+,.0f} to {lead['high']:+,.0f})"
                if known
                else "not compared",
                value=place(lead["difference"]) if known else None,
                left=place(lead["low"]) if known else None,
                width=place(lead["high"]) - place(lead["low"]) if known else None,
            )
        )
    return found, place(0.0) if len(numbers) > 1 else None


def worth(money: Money, released: date) -> Chart:
    """The difference between the worlds, summed up, with its interval."""
    values = [value for item in money.by_week for value in (item.value, item.low, item.high)]
    ends = [_at(item.day) for item in money.by_week]
    place = Scale([_at(released), *ends], [0.0, *values], False)
    return Chart(
        title=f"{money.currency} that the retrained world is ahead of its twin, summed up since the release",
        low=f"{place.low:+,.0f}",
        high=f"{place.high:+,.0f}",
        first=f"{released:%-d %b %Y}",
        last=f"{money.by_week[-1].day:%-d %b %Y}",
        points=[Point(place.x(_at(released)), place.y(0.0))]
        + [
            Point(
                place.x(_at(item.day)),
                place.y(item.value),
                f"{item.day:%-d %b}: {item.value:+,.0f}, 95% {item.low:+,.0f} to {item.high:+,.0f}",
            )
            for item in money.by_week
        ],
        band=[(place.x(_at(item.day)), place.y(item.low), place.y(item.high)) for item in money.by_week],
        zero=place.y(0.0),
    )


def _at(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
