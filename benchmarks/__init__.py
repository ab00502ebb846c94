"""Measurements, one command per table; see README.md in this folder."""
