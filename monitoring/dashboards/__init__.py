"""Dashboards as code: what is shown of a served model, for Grafana and for the page of this machine alike."""
