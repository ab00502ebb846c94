"""Metrics for Prometheus, computed from what is stored when they are scraped."""
