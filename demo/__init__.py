"""Demonstration: nine months of a live business within half an hour, beside a twin world that never retrains."""
