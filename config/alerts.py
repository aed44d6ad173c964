"""Configuration of alerts: the thresholds of the Prometheus rules on model servers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kfp_lifecycle.config.section import Probability, Section, text

RunbookUrl = Annotated[str, text(r"^[^\s#]+$", "an address or a path, to which #name of an alert is added")]


class Alerts(Section):
    """When Prometheus tells that a served model is not well; `lifecycle alerts` writes the rules."""

    max_latency_p95_ms: float = Field(default=100.0, gt=0)
    """A slower 95th percentile for five minutes is told, as the front sees it, waiting included; where no front is
    read, as the server does."""
    max_error_rate: Probability = 0.01
    """More answers that are the service's own failures, for five minutes, are told: at the front, or of the servers."""
    max_score_change: float = Field(default=0.15, gt=0)
    """A mean score that is farther than this share from the mean in the model's validation part, for 30 minutes, is
    told: 0.15 is 15 percent of it, up or down."""
    min_predictions_per_second: float = Field(default=10.0, ge=0)
    """Fewer predictions for five minutes are told; 0 never tells: for who has quiet nights or Saturdays."""
    min_window: int = Field(default=500, gt=0)
    """Fewer predictions in the window say nothing of scores or features."""
    max_missing_rise: Probability = 0.2
    """A feature whose share of missing values in the last hour is so much above that of the week is told."""
    max_model_age_days: float = Field(default=365.0, ge=0)
    """A model whose newest training snapshot is older is told; 0 never tells: for who learns from historical data."""
    max_monitoring_delay_hours: float = Field(default=6.0, gt=0)
    """A monitoring run that was due so long ago by `schedules.monitoring`, and did not come to a good end, is told."""
    runbook_url: RunbookUrl = "docs/alerts.md"
    """Where it is written what each alert means and what to do, under its name; as an address it is a link."""
