"""A stand-in for Meta's Graph API and Pancake's POS API on one local port, for the demo, the tests and benchmarks.

Nothing here is used by the pipeline and nothing of the pipeline is used here: the two know each other by HTTP alone.
"""
