"""Treatment effect: what acting on predictions changed, by the entities that were held out at random.

Whoever was saved does not have the event that was foretold, so that outcomes of the acted upon say nothing of the model
and nothing of the action. A group that is left alone by chance, whatever its score, says both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kfp_lifecycle.artifacts.evaluation import Metric
from kfp_lifecycle.artifacts.outcomes import TreatmentEffect
from kfp_lifecycle.config.training import Costs
from kfp_lifecycle.uncertainty.bootstrap import Bootstrap, interval

Floats = NDArray[np.float64]

REPLICATES = 500
# Of fewer rows on either side nothing is told; a score band needs as many that were held out.
FEWEST = 20
MOST_BANDS = 5


def acted_upon(decision: NDArray[np.bool_], held_out: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Who was acted upon: whose score says so and who was not held out, shape (n,)."""
    return decision & ~held_out


def treatment_effect(
    score: Floats,
    label: Floats,
    treated: NDArray[np.bool_],
    held_out: NDArray[np.bool_],
    entity: NDArray[np.int64],
    costs: Costs,
    seed: int,
) -> TreatmentEffect | None:
    """The difference of event rates between the held out and the acted upon, within score bands.

    Direct standardisation: a band's difference counts by how many of the acted upon are in it (Cochran 1968, "The
    effectiveness of adjustment by subclassification in removing bias"). Chance chose who is held out, so that scores
    balance anyway; the bands take out what chance left, and make the interval narrower.

    Args:
        score: The label's probability, shape (n,), of predictions whose horizon has passed and that said to act.
        label: 0 or 1, shape (n,).
        treated: Who was acted upon, shape (n,).
        held_out: Who was not, by chance, shape (n,).
        entity: A whole number for each row's entity, shape (n,).
        costs: What an event and an action are worth.
        seed: Chooses the replicates.

    Returns:
        None where either side has too few rows.
    """
    left_alone = int(held_out.sum())
    if min(int(treated.sum()), left_alone) < FEWEST:
        return None
    bands = max(1, min(MOST_BANDS, left_alone // FEWEST))
    edges = np.unique(np.quantile(score[held_out], np.linspace(0, 1, bands + 1)[1:-1]))
    band = np.searchsorted(edges, score, "right")
    number = len(edges) + 1
    sides = [side & (band == place) for place in range(number) for side in (treated, held_out)]
    contributions = np.column_stack([column for side in sides for column in (side, side * label)]).astype(np.float64)
    bootstrap = Bootstrap(entity, REPLICATES, seed)
    prevented = _prevented(contributions.sum(axis=0)[None, :], number)[0]
    replicates = _prevented(bootstrap.totals(contributions), number)
    found = interval(float(prevented), replicates, len(score))

    def worth(share: float) -> float:
        return 1000 * (share * costs.saved - costs.action)

    return TreatmentEffect(
        treated=int(treated.sum()),
        held_out=left_alone,
        bands=number,
        prevented=found,
        value_per_1000=Metric(worth(found.value), worth(found.low), worth(found.high), found.rows),
    )


def _prevented(totals: Floats, bands: int) -> Floats:
    """Standardised difference of rates from totals (b, 4 · bands): rows and events of the acted upon, then those of the
    held out, band by band."""
    rows, events, alone, alone_events = np.moveaxis(totals.reshape(len(totals), bands, 4), 2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = alone_events / alone - events / rows
    # A replicate may have drawn none of a band's: its other bands stand for it.
    weight = np.where(np.isfinite(difference), rows, 0.0)
    with np.errstate(invalid="ignore"):
        shares: Floats = (weight * np.nan_to_num(difference)).sum(axis=1) / weight.sum(axis=1)
    return shares
