"""Demonstration: nine months of a live business in a quarter of an hour, beside a twin world that never retrains."""
