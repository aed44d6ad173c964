"""Champion-challenger comparison: superiority and non-inferiority, both models on the same rows."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.verdict import ChampionOutcome, Comparison, ScorePair
from kfp_lifecycle.components.evaluation.decide_promotion.adjusted import compare_adjusted
from kfp_lifecycle.components.evaluation.decide_promotion.gate import number
from kfp_lifecycle.components.evaluation.decide_promotion.incumbent import Incumbent
from kfp_lifecycle.components.evaluation.decide_promotion.windows import Rows, champions_rows, newest_rows
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.gate import Champion as Rule
from kfp_lifecycle.config.gate import Compared, Unreachable
from kfp_lifecycle.modelling.dataset import TrainingSet
from kfp_lifecycle.modelling.metrics import Performance
from kfp_lifecycle.modelling.model_folder import ModelFolder
from kfp_lifecycle.registry.champion import Champion
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.uncertainty.area import area
from kfp_lifecycle.uncertainty.bootstrap import Bootstrap, interval

Demand = Literal["superiority", "non_inferiority"]

# What no calibration and no threshold changes.
OF_THE_RANKING = ("roc_auc", "average_precision", "lift_at_10_percent")
LOWER_IS_BETTER = ("brier_score", "log_loss")
SCORE_GROUPS = 20


def compare(
    champion: Champion,
    candidate: ModelFolder,
    configuration: Configuration,
    training_set: TrainingSet,
    validated: Path,
) -> ChampionOutcome:
    """Whether the candidate is better than the champion in what it has to be, and not worse in the rest; by what
    monitoring measured, where it is the champion adjusted by that.

    Args:
        champion: The model in production.
        candidate: The model that may take its place.
        configuration: Settings; `gate.champion` says what is demanded.
        training_set: The candidate's.
        validated: The validated tables that it was built from.

    Raises:
        ContractViolation: the training set cannot be read.
    """
    rule = demand_on(candidate, configuration.gate.champion)
    newest = newest_rows(training_set)
    with tempfile.TemporaryDirectory(prefix="champion-") as place:
        try:
            incumbent = Incumbent(champion, Path(place), training_set, validated, configuration.source.tables)
            former, notes = champions_rows(training_set, incumbent.snapshots, configuration.snapshots.every_days)
            windows = [newest, former] if former else [newest]
            theirs = [Scored(incumbent.score(rows.part.frame), incumbent.threshold) for rows in windows]
        except ContractViolation as violation:
            return _unreachable(champion, rule, str(violation))
    scorer = candidate.scorer()
    ours = [Scored(scorer.score(rows.part.features), candidate.threshold) for rows in windows]
    measured = candidate.description.origin.adjustment
    if measured is not None:
        comparison, window = compare_adjusted(measured, configuration.gate.champion)
        return ChampionOutcome(
            version=champion.version,
            compared=True,
            passed=comparison.passed,
            sentence=comparison.sentence,
            notes=[f"It ranks as version {measured.version} does, whose estimator it has.", *incumbent.notes],
            windows=[window],
            comparisons=[comparison],
            scores=score_pairs(theirs[0].score, ours[0].score),
        )
    contests = [Contest(*sides, configuration) for sides in zip(windows, ours, theirs, strict=True)]
    comparisons = [contests[0].meet("superiority", rule.metric, rule.margin, champion.version)]
    for contest in contests:
        for metric, margin in rule.non_inferiority.items():
            if contest is contests[0] and metric == rule.metric:
                # Better is not worse.
                continue
            comparisons.append(contest.meet("non_inferiority", metric, margin, champion.version))
    missed = [comparison for comparison in comparisons if not comparison.passed]
    return ChampionOutcome(
        version=champion.version,
        compared=True,
        passed=not missed,
        sentence=" ".join(comparison.sentence for comparison in missed or comparisons[:1]),
        notes=[*_ranks_alike(candidate, configuration.gate.champion), *incumbent.notes, *notes],
        windows=[contest.rows.window for contest in contests],
        comparisons=comparisons,
        scores=score_pairs(theirs[0].score, ours[0].score),
    )


def score_pairs(champion: NDArray[np.float32], candidate: NDArray[np.float32]) -> list[ScorePair]:
    """Scores of both at the same ranks: each one's, shape (n,), sorted, in the means of SCORE_GROUPS equal groups."""
    groups = min(SCORE_GROUPS, len(champion))
    means = ([float(part.mean()) for part in np.array_split(np.sort(side), groups)] for side in (champion, candidate))
    return [ScorePair(champion=theirs, candidate=ours) for theirs, ours in zip(*means, strict=True)]


def demand_on(candidate: ModelFolder, rule: Rule) -> Rule:
    """What a candidate has to be better in: one that ranks as a version in production does cannot rank better, and is
    judged by what its decisions are worth where `gate.champion.metric` knows the ranking alone."""
    if candidate.description.origin.version and rule.metric in OF_THE_RANKING:
        return rule.model_copy(update={"metric": "expected_value_per_1000", "margin": 0.0})
    return rule


def _ranks_alike(candidate: ModelFolder, rule: Rule) -> list[str]:
    if demand_on(candidate, rule) is rule:
        return []
    return [
        f"It ranks as version {candidate.description.origin.version} does, whose estimator it has: it has to be better "
        f"in expected_value_per_1000, and not in {rule.metric} (gate.champion.metric)."
    ]


def _unreachable(champion: Champion, rule: Rule, reason: str) -> ChampionOutcome:
    lenient = rule.unreachable is Unreachable.judge_absolutely
    policy = (
        "The rules alone decide (gate.champion.unreachable: judge_absolutely)."
        if lenient
        else "Nothing is approved unseen (gate.champion.unreachable: refuse): mend that, set judge_absolutely for this "
        "run, or take the alias `champion` from the version."
    )
    return ChampionOutcome(
        version=champion.version,
        compared=False,
        passed=lenient,
        sentence=f"The candidate could not be compared with version {champion.version}, which is in production: "
        f"{reason.rstrip('.')}. {policy}",
    )


@dataclass(frozen=True)
class Scored:
    """What a model makes of a window's rows.

    Attributes:
        score: The event's probability for each row, shape (n,).
        threshold: The model acts from this score on.
    """

    score: NDArray[np.float32]
    threshold: float


class Contest:
    """Both models on one window."""

    def __init__(self, rows: Rows, ours: Scored, theirs: Scored, configuration: Configuration) -> None:
        """Gather what the comparisons share.

        Args:
            rows: The window.
            ours: The candidate on it.
            theirs: The champion on it.
            configuration: Costs, replicates, seed and the smallest class.
        """
        self.rows, self.ours, self.theirs, self.configuration = rows, ours, theirs, configuration

    @cached_property
    def performances(self) -> tuple[Performance, Performance]:
        """The figures of candidate and champion, as statistics of weights."""
        label, costs = self.rows.part.label, self.configuration.training.costs
        return (
            Performance(label, self.ours.score, self.ours.threshold, costs),
            Performance(label, self.theirs.score, self.theirs.threshold, costs),
        )

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """Every metric of candidate and champion, shape (2, metrics)."""
        whole = np.ones((1, len(self.rows.part.label)))
        return np.concatenate([performance(whole) for performance in self.performances])

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """Draws the same entities for both models."""
        evaluation, training = self.configuration.evaluation, self.configuration.training
        return Bootstrap(self.rows.part.entity, evaluation.bootstrap_replicates, training.seed)

    @cached_property
    def decision_leads(self) -> NDArray[np.float64]:
        """Candidate less champion in each of `Performance.decision_names`, a row for each replicate."""
        ours, theirs = (performance.replicate_decisions(self.bootstrap) for performance in self.performances)
        return ours - theirs

    @cached_property
    def ranking_leads(self) -> NDArray[np.float64]:
        """Candidate less champion in each of `Performance.ranking_names`, a row for each replicate."""
        ours, theirs = (performance.replicate_ranking(self.bootstrap) for performance in self.performances)
        return ours - theirs

    def replicates(self, metric: str) -> NDArray[np.float64]:
        """Candidate less champion in one metric, shape (replicates,)."""
        if metric in Performance.decision_names:
            return self.decision_leads[:, Performance.decision_names.index(metric)]
        return self.ranking_leads[:, Performance.ranking_names.index(metric)]

    def meet(self, demand: Demand, metric: Compared, margin: float, version: str) -> Comparison:
        """Whether the worse end of the 95% interval of the candidate's lead meets a demand."""
        window, label = self.rows.window, self.rows.part.label
        position = Performance.names.index(metric)
        now, before = (float(value) for value in self.values[:, position])
        method: Literal["DeLong", "paired bootstrap"] = "DeLong" if metric == "roc_auc" else "paired bootstrap"

        def outcome(passed: bool, sentence: str, lead: tuple[float, float, float] | None = None) -> Comparison:
            return Comparison(
                metric=metric,
                window=window.name,
                demand=demand,
                margin=margin,
                champion=before if np.isfinite(before) else None,
                candidate=now if np.isfinite(now) else None,
                difference=lead[0] if lead else None,
                low=lead[1] if lead else None,
                high=lead[2] if lead else None,
                method=method,
                passed=passed,
                sentence=sentence,
            )

        where = f" on the {window.rows:,} rows that it was judged by" if window.name == "champion" else ""
        fewest = min(int(label.sum()), int((label == 0).sum()))
        if fewest < self.configuration.training.min_class_rows:
            return outcome(
                False,
                f"{metric} cannot be compared with version {version}{where}: {fewest} rows of one class are fewer than "
                f"training.min_class_rows ({self.configuration.training.min_class_rows}).",
            )
        if not (np.isfinite(now) and np.isfinite(before)):
            whose = "the candidate" if not np.isfinite(now) else f"version {version}"
            return outcome(
                False,
                f"{metric} is undefined for {whose}{where}: no row reaches its threshold. Compare another metric.",
            )
        sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
        if method == "DeLong":
            entity = self.rows.part.entity
            ours, theirs = (
                area(label, score, entity, window.entities) for score in (self.ours.score, self.theirs.score)
            )
            measured = ours.less(theirs)
        else:
            measured = interval(sign * (now - before), sign * self.replicates(metric), len(label))
        lead = (measured.value, measured.low, measured.high)
        passed = lead[1] > (margin if demand == "superiority" else -margin)
        figures = (
            f"{metric} is {number(now)}, that of version {version}, which is in production, {number(before)}{where}"
        )
        return outcome(passed, f"{figures}: {_told(lead, demand, margin, passed)}", lead)


def _told(lead: tuple[float, float, float], demand: Demand, margin: float, passed: bool) -> str:
    value, low, high = lead
    if demand == "superiority" and low == high == 0:
        return "there is no difference and nothing to gain."
    words = f"better by {number(value)}" if value >= 0 else f"worse by {number(-value)}"
    if demand == "non_inferiority":
        required = f"a loss of {number(margin)} has to be ruled out"
    elif margin:
        required = f"more than {number(margin)} is required"
    else:
        required = "a lead that is no accident of the sample is required"
    return (
        f"the candidate is {words} (95% of its lead {number(low)} to {number(high)}); "
        f"{required}: {'passed' if passed else 'missed'}."
    )
