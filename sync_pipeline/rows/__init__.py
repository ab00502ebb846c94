"""Pure functions from raw JSON, and from the cost file, to table rows."""
