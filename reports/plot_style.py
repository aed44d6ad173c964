"""Plot style (matplotlib), one for all plots: drawn for 400 pixels of width, text kept as text."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# The reader's machine chooses the font; that this one lacks it is no news.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

ACCENT, QUIET, WARNING, INK = "#2563a8", "#8a97a6", "#c2541b", "#1f2933"
# A longer name would leave no room for the plot, and a longer title has none.
LONG_NAME, LONGEST_NAME, LONGEST_TITLE = 26, 32, 44
# 400 pixels at the 72 dots an inch that an SVG is measured in.
WIDTH_INCHES, HEIGHT_INCHES = 5.6, 3.8

STYLE = {
    "svg.fonttype": "none",
    # Identifiers inside the file come from this instead of chance, so that the same plot has the same bytes.
    "svg.hashsalt": "lifecycle",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "Helvetica", "Arial", "DejaVu Sans", "sans-serif"],
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titleweight": "semibold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": "#e4e8ec",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 2,
}


matplotlib.rcParams.update(STYLE)


def new_figure(title: str, height: float = HEIGHT_INCHES) -> tuple[Figure, Axes]:
    """A figure with one titled plot, `height` in inches."""
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(shortened(title, LONGEST_TITLE), parse_math=False)
    return figure, axes


def name_rows(axes: Axes, names: Sequence[str], values: str) -> None:
    """Name the rows of a plot from above, whatever the names hold, and what its values are.

    A `$` begins no formula. Long names leave so little room that title and label need some of what is beside the plot.
    """
    shown = [shortened(name) for name in names]
    axes.set_yticks(range(len(shown)), shown, parse_math=False)
    axes.invert_yaxis()
    long = max(map(len, shown), default=0) > LONG_NAME
    axes.set_xlabel(values, loc="right" if long else "center")
    if long:
        title = axes.get_title("left")
        axes.set_title("", loc="left")
        axes.set_title(title, loc="right", parse_math=False)


def shortened(name: str, longest: int = LONGEST_NAME) -> str:
    """A name without its middle, where it is too long for a plot: its end may be what tells it from others."""
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[: longest - 1 - half]}…{name[-half:]}"


def svg(figure: Figure) -> str:
    """The figure as an `<svg>` element."""
    drawn = io.StringIO()
    with warnings.catch_warnings():
        # Text stays text: the reader's machine has the font that this one may lack.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        warnings.filterwarnings("ignore", "Matplotlib currently does not support", UserWarning)
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    text = drawn.getvalue()
    return text[text.index("<svg") :]
