"""Configuration of the evaluation."""

from __future__ import annotations

from pydantic import Field, field_validator

from kfp_lifecycle.config.section import Section


class Evaluation(Section):
    """How the candidate is examined."""

    bootstrap_replicates: int = Field(default=1000, ge=50, le=10_000)
    """Resamples behind the 95% intervals that have no closed form; whole entities are drawn."""
    min_group_rows: int = Field(default=100, gt=0)
    """A group or slice with fewer rows is said to be too small to judge."""
    disturbed_rows: int = Field(default=50_000, gt=0)
    """Rows, whole entities, that are scored anew for each missing feature, noise and other disturbance."""
    actionable: list[str] = Field(default=[])
    """Features that a customer controls: for each decision the smallest change of one or two of them that turns it is
    searched for."""
    wording: dict[str, str] = Field(default={})
    """What a feature's value is in plain words, for reasons, such as `no login for {value:.0f} days`; a feature without
    is told by its title, else by its name."""
    suspicious_auc: float = Field(default=0.75, ge=0.5, le=1)
    """A feature that alone ranks with at least this ROC AUC, and better than all the others together, is said to look
    as if it leaked the label."""
    explained_rows: int = Field(default=300, gt=0)
    """Rows that SHAP explains."""
    latency_requests: int = Field(default=300, gt=0)
    """Requests behind the latency figures."""

    @field_validator("wording")
    @classmethod
    def _says_a_value(cls, wording: dict[str, str]) -> dict[str, str]:
        for name, words in wording.items():
            shown = set()
            for value in (1.0, "text"):
                try:
                    shown.add(words.format(value=value))
                except (ValueError, LookupError, AttributeError):
                    continue
            if not shown:
                raise ValueError(
                    f"the wording of {name}, {words!r}, cannot be filled in; write {{value}}, or {{value:.0f}} for a "
                    "number without decimals"
                )
        return wording
