"""What is known of a customer of the music shop: nothing but purchases. Each view's values come from its SQL file."""

from __future__ import annotations

from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, UnixTimestamp

customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.INT64)


def view(name: str, description: str, **features: Any) -> FeatureView:
    """A feature view over the file that `<name>.sql` fills. Its time to live is `features.freshness_days`."""
    return FeatureView(
        name=name,
        description=description,
        entities=[customer],
        schema=[Field(name="customer_id", dtype=Int64), *(Field(name=n, dtype=t) for n, t in features.items())],
        source=FileSource(path=f"{name}.parquet", timestamp_field="event_timestamp"),
    )


history = view(
    "history",
    "All purchases so far",
    purchase_days=Int64,
    total_quantity=Int64,
    total_amount=Float64,
    average_amount=Float64,
    last_amount=Float64,
    days_between_purchases=Float64,
    first_purchase_at=UnixTimestamp,
    last_purchase_at=UnixTimestamp,
)

recent = view(
    "recent",
    "Purchases of the last months",
    purchases_30_days=Int64,
    purchases_90_days=Int64,
    purchases_180_days=Int64,
    amount_90_days=Float64,
)

request = RequestSource(name="request", schema=[Field(name="request_time", dtype=UnixTimestamp)])


@on_demand_feature_view(
    sources=[history[["first_purchase_at", "last_purchase_at", "days_between_purchases"]], request],
    schema=[
        Field(name="days_since_first_purchase", dtype=Float64),
        Field(name="days_since_last_purchase", dtype=Float64),
        Field(name="overdue", dtype=Float64),
    ],
    mode="python",
)
def recency(inputs: dict[str, list[Any]]) -> dict[str, list[float | None]]:
    """Days from the first and the last purchase to the moment of asking.

    `overdue` is the silence in units of the customer's own rhythm; missing for those who bought on one day only.
    """

    def days_since(event: str) -> list[float | None]:
        moments = zip(inputs[event], inputs["request_time"], strict=True)
        return [None if then is None else (now - then).total_seconds() / 86_400 for then, now in moments]

    silence = days_since("last_purchase_at")
    rhythm = inputs["days_between_purchases"]
    return {
        "days_since_first_purchase": days_since("first_purchase_at"),
        "days_since_last_purchase": silence,
        "overdue": [
            None if days is None or not usual else days / usual for days, usual in zip(silence, rhythm, strict=True)
        ],
    }


cdnow = FeatureService(
    name="cdnow",
    description="The inputs of the lapse model",
    features=[
        history[
            [
                "purchase_days",
                "total_quantity",
                "total_amount",
                "average_amount",
                "last_amount",
                "days_between_purchases",
            ]
        ],
        recent,
        recency,
    ],
)
