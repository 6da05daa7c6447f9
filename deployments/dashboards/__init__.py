"""Dashboards, alerts and Prometheus' settings as code."""
