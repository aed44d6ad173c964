"""What the churn model knows about a customer. Each feature view's values come from the SQL file of the same name."""

from __future__ import annotations

from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String, UnixTimestamp

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


account = view("account", "Where the customer came from and since when", channel=String, signed_up_at=UnixTimestamp)

billing = view(
    "billing",
    "The newest bill and how paying has gone",
    plan=String,
    payment_method=String,
    monthly_charge=Float64,
    discount=Float64,
    charge_increase=Float64,
    discount_lost=Float64,
    failed_payments=Int64,
    last_payment_failed=Int64,
    last_billed_at=UnixTimestamp,
)

engagement = view(
    "engagement",
    "How much the service is used, and whether more or less than before",
    logins_7_days=Int64,
    logins_30_days=Int64,
    login_trend=Float64,
    active_days_30_days=Int64,
    session_minutes_30_days=Float64,
    last_login_at=UnixTimestamp,
)

spending = view(
    "spending",
    "What was bought beside the subscription",
    total_purchases=Int64,
    total_spent=Float64,
    purchase_frequency=Float64,
    average_purchase=Float64,
    last_purchase_at=UnixTimestamp,
)

support = view(
    "support",
    "Trouble in the last 90 days",
    support_tickets=Int64,
    billing_tickets=Int64,
    unsolved_tickets=Int64,
    worst_satisfaction=Float64,
)

profile = view(
    "profile",
    "Who the customer is: for judging fairness, never for predicting",
    age_band=String,
    gender=String,
    region=String,
)

request = RequestSource(name="request", schema=[Field(name="request_time", dtype=UnixTimestamp)])


@on_demand_feature_view(
    sources=[
        account[["signed_up_at"]],
        billing[["last_billed_at"]],
        engagement[["last_login_at"]],
        spending[["last_purchase_at"]],
        request,
    ],
    schema=[
        Field(name="tenure_days", dtype=Float64),
        Field(name="days_since_last_bill", dtype=Float64),
        Field(name="days_since_last_login", dtype=Float64),
        Field(name="days_since_last_purchase", dtype=Float64),
    ],
    mode="python",
)
def recency(inputs: dict[str, list[Any]]) -> dict[str, list[float | None]]:
    """Days from each event to the moment of asking; missing where the event never happened."""

    def days_since(event: str) -> list[float | None]:
        moments = zip(inputs[event], inputs["request_time"], strict=True)
        return [None if then is None else (now - then).total_seconds() / 86_400 for then, now in moments]

    return {
        "tenure_days": days_since("signed_up_at"),
        "days_since_last_bill": days_since("last_billed_at"),
        "days_since_last_login": days_since("last_login_at"),
        "days_since_last_purchase": days_since("last_purchase_at"),
    }


churn = FeatureService(
    name="churn",
    description="The inputs of the churn model",
    features=[
        account[["channel"]],
        billing[
            [
                "plan",
                "payment_method",
                "monthly_charge",
                "discount",
                "charge_increase",
                "discount_lost",
                "failed_payments",
                "last_payment_failed",
            ]
        ],
        engagement[
            ["logins_7_days", "logins_30_days", "login_trend", "active_days_30_days", "session_minutes_30_days"]
        ],
        spending[["total_purchases", "total_spent", "purchase_frequency", "average_purchase"]],
        support,
        recency,
    ],
)
