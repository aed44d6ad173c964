"""Sequential tests: their false alarms stay below what was asked whenever one looks, and a difference is found."""

from __future__ import annotations

import math
import random

import pytest

from kfp_lifecycle.uncertainty.sequential import ODDS, EventTest, MeanTest

STREAMS, ALPHA = 1000, 0.05


def test_the_evidence_is_the_mean_likelihood_ratio_of_the_bets() -> None:
    test = EventTest()
    test.add(3, 1, share=0.1)
    test.add(1, 2, share=0.5)

    def likelihood(ratio: float, share: float, ours: int, theirs: int) -> float:
        chance = ratio * share / (ratio * share + 1 - share)
        return (chance / share) ** ours * ((1 - chance) / (1 - share)) ** theirs

    bets = [likelihood(ratio, 0.1, 3, 1) * likelihood(ratio, 0.5, 1, 2) for ratio in ODDS]
    assert test.evidence == pytest.approx(sum(bets) / len(bets))


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_a_candidate_that_is_no_worse_is_seldom_accused_however_often_one_looks(ratio: float) -> None:
    chance = random.Random(7)
    accused = 0
    for _ in range(STREAMS):
        test = EventTest()
        for event in range(100):
            share = 0.1 if event < 50 else 0.5
            ours = chance.random() < ratio * share / (ratio * share + 1 - share)
            test.add(ours, not ours, share)
            if test.evidence >= 1 / ALPHA:
                accused += 1
                break
    assert accused / STREAMS <= ALPHA


def test_more_errors_of_the_candidate_are_found_and_fewer_speak_for_it() -> None:
    worse, better = EventTest(), EventTest()
    worse.add(20, 0, share=0.5)
    better.add(0, 20, share=0.5)
    assert worse.evidence > 1000
    assert better.evidence < 0.01
    nothing = EventTest()
    nothing.add(5, 0, share=1.0)
    assert nothing.evidence == 1.0


# It holds asymptotically: by very skewed values it is missed a little more often early on.
@pytest.mark.parametrize(("skewed", "allowed"), [(False, ALPHA), (True, 2 * ALPHA)])
def test_the_interval_of_a_mean_covers_it_at_all_times_at_once(skewed: bool, allowed: float) -> None:
    chance = random.Random(3)
    missed = 0
    for _ in range(STREAMS // 4):
        test = MeanTest()
        for count in range(1, 301):
            value = chance.expovariate(1.0) - 1 if skewed else chance.gauss(0, 1)
            test.add([value])
            if count >= 50 and test.exceeds(0.0, ALPHA):
                missed += 1
                break
    assert missed / (STREAMS // 4) <= allowed


def test_the_interval_of_a_mean_narrows_and_a_shift_is_found() -> None:
    test = MeanTest()
    assert test.radius(ALPHA) == math.inf
    values = [0.2 + (-1) ** number * 0.05 for number in range(100)]
    test.add(values[:50])
    early = test.radius(ALPHA)
    test.add(values[50:])
    assert test.mean == pytest.approx(0.2)
    assert test.radius(ALPHA) < early
    assert test.exceeds(0.15, ALPHA)
    assert not test.exceeds(0.2, ALPHA)
