"""The engine: one tenant's days, oldest first, from both APIs into the warehouse. There is no Dagster in it.

`engine` knows windows, commits and failures; a source is a `Feed` in a file of its own.
"""

META = "meta"
POS = "pos"
