"""Leave-one-out by caller: a verdict that hangs on one small caller is not the window's (jackknife: Tukey 1958).

Weights would not do. Where one service asks for all customers and somebody else for a few, to cut the larger one down
is to let the smaller one speak for all. So nobody is weighted: the window is judged without each caller that could
matter, and where that changes the verdict, the others' counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kfp_lifecycle.artifacts.drift import CallerLeftOut, Finding, told
from kfp_lifecycle.components.monitoring.detect_drift.rule import Baseline
from kfp_lifecycle.components.monitoring.detect_drift.verdict import Judgement, decide
from kfp_lifecycle.config.monitoring import Monitoring

CALLER = "(caller)"
"""The column that says who asked, called as no feature is; missing where that is not known."""
# Of fewer rows a level cannot be held where it was: extremes count 3.5 standard deviations at the most.
LEAST_SHARE = 0.02


def decisive_caller(
    baseline: Baseline, compared: pd.DataFrame, findings: Sequence[Finding], judged: Judgement, rule: Monitoring
) -> CallerLeftOut | None:
    """The caller without whose rows the verdict is another one; of several the one with most rows.

    Tried are those with at least `LEAST_SHARE` of the rows, who could hide something, and of each column that drifted
    the one that moved it most, whatever its share; nobody with more than `monitoring.max_caller_share`.

    Args:
        baseline: What is compared with.
        compared: The window's rows, with the column `caller`.
        findings: Of all rows.
        judged: What follows from them.
        rule: `max_caller_share`, and the limits of the rule.
    """
    counts = compared[CALLER].value_counts()
    small = counts[counts <= rule.max_caller_share * len(compared)]
    if small.empty or judged.verdict == "undecided":
        return None
    tried = set(small.index[small >= LEAST_SHARE * len(compared)]) | _movers(baseline, compared, findings)
    inputs = len(baseline.columns) - 1
    # To look so often must not find by chance what all rows together do not show.
    strict = rule.model_copy(update={"significance": rule.significance / max(1, len(tried))})
    for caller in small.index[small.index.isin(tried)]:
        rest = compared[compared[CALLER] != caller]
        if len(rest) < rule.min_window:
            continue
        others = baseline.compare(rest, rule if judged.verdict != "keep" else strict)
        if decide(others, inputs, len(rest), rule).decision != judged.decision:
            rows, share = int(small[caller]), int(small[caller]) / len(compared)
            drifted = [item for item in findings if item.drifted]
            seem = f"it would be: {judged.verdict}, {told(drifted)}" if drifted else "nothing would seem to have moved"
            return CallerLeftOut(
                caller=str(caller),
                rows=rows,
                share=share,
                sentence=f"Caller {caller}, who asked for {rows:,} of the {len(compared):,} predictions compared "
                f"({share:.1%}), is left out: with those rows {seem}. Find out who that is.",
            )
    return None


def _movers(baseline: Baseline, compared: pd.DataFrame, findings: Sequence[Finding]) -> set[str]:
    """Of each column that drifted, the caller whose rows pull it farthest from where all rows are."""
    movers = set()
    for finding in findings:
        if finding.drifted:
            rows = baseline.rows(finding, compared[finding.column]).astype(np.float64)
            pull = pd.Series(rows - np.nanmean(rows)).groupby(compared[CALLER].to_numpy()).sum().abs()
            if len(pull):
                movers.add(str(pull.idxmax()))
    return movers
