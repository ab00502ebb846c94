"""The two APIs as typed clients. They speak HTTP and know neither Dagster nor SQL."""
