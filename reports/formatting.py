"""Template filters: numbers, shares, durations, times and names as a reader wants to see them."""

from __future__ import annotations

import math
import unicodedata
from datetime import datetime, timedelta
from typing import Any

from markupsafe import Markup

from kfp_lifecycle.artifacts.titles import Titles, is_named, slice_title, title_of

NOTHING = "—"
# Control, surrogate and unassigned characters either break HTML or cannot be encoded.
UNPRINTABLE = {"Cc", "Cs", "Cn"}


def printable(value: Any) -> Any:
    """Text without characters that HTML cannot hold; everything else unchanged. Escaping is the template's."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return NOTHING
    return "".join(
        letter if letter in "\n\t" or unicodedata.category(letter) not in UNPRINTABLE else "\N{REPLACEMENT CHARACTER}"
        for letter in str(value)
    )


def number(value: float | None) -> str:
    """A number with as many digits as mean something: `12,345`, `4.12`, `0.823`, `2.1e-06`."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if float(value).is_integer() and size < 1e15:
        text = f"{int(value):,}"
    elif size >= 0.001:
        digits = 3 if size < 1 else 2 if size < 10 else 1 if size < 1000 else 0
        text = f"{value:,.{digits}f}"
    else:
        text = f"{value:.2g}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def percent(value: float | None) -> str:
    """A share between 0 and 1: `12.3%`, `0.02%`."""
    if value is None or math.isnan(value):
        return NOTHING
    scaled = 100 * value
    if scaled == 0 or scaled >= 10:
        return f"{scaled:.0f}%" if float(scaled).is_integer() else f"{scaled:.1f}%"
    return f"{scaled:.2g}%"


def measure(value: float, unit: str, per: int = 1, currency: str = "") -> str:
    """A business metric's value in its unit: `17.0%`, `1,240 USD`, `0.823`.

    Args:
        value: For `per` predictions.
        unit: `money`, `share` or `number`.
        per: Predictions that it is told for.
        currency: Of money.
    """
    if unit == "share":
        return f"{100 * value / per:.1f}%".replace("-", "−", 1)
    return f"{value:,.0f} {currency}".replace("-", "−", 1).rstrip() if unit == "money" else number(value)


def measured_title(title: str, unit: str, per: int = 1) -> str:
    """A business metric's title, with how many predictions it is told for: `Value of acting, for 1,000 predictions`."""
    per_predictions = f", for {per:,} predictions" if per > 1 and unit != "share" else ""
    return f"{title[:1].upper()}{title[1:]}{per_predictions}"


def duration(value: float | None) -> str:
    """Seconds as `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`."""
    if value is None or math.isnan(value):
        return NOTHING
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def moment(value: datetime | str | None) -> str:
    """A point in time to the minute, in UTC as the run records it; a text that is none as it is."""
    if value is None or value == "":
        return NOTHING
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return str(value)
    zone = " UTC" if time.utcoffset() == timedelta(0) else time.strftime(" %z").rstrip()
    return time.strftime("%-d %B %Y, %H:%M") + zone


def words(value: str) -> str:
    """An identifier as words: `worst_missing_feature_auc_drop` becomes `worst missing feature AUC drop`."""
    spelled = {"auc": "AUC", "roc": "ROC", "p50": "p50", "p99": "p99", "ms": "(ms)", "shap": "SHAP"}
    return " ".join(spelled.get(part, part) for part in value.replace("_", " ").replace("-", " ").split())


def metric_words(metric: str, titles: Titles) -> str:
    """A metric's name without its dimension as words, of a slice with its title: `ROC AUC Größe (cm)=q1`."""
    rest = metric.partition(".")[2]
    name, _, piece = rest.partition(".")
    called = slice_title(piece, titles)
    return words(rest.replace(".", " ")) if called == piece else f"{words(name)} {called}"


def compact(value: Any) -> str:
    """A value that somebody wrote or chose: numbers without the zeros that nobody typed, parts one after the other."""
    if isinstance(value, dict):
        return ", ".join(f"{words(str(name))} {compact(part)}" for name, part in value.items()) or NOTHING
    if isinstance(value, list):
        return ", ".join(compact(part) for part in value) or NOTHING
    if isinstance(value, int) and not isinstance(value, bool):
        return number(value)
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−", 1) if value < 0 else f"{value:.4g}"
    return NOTHING if value is None or value == "" else str(value)


FILTERS = {
    "compact": compact,
    "duration": duration,
    "is_named": is_named,
    "metric_words": metric_words,
    "moment": moment,
    "number": number,
    "percent": percent,
    "title_of": title_of,
    "words": words,
}
