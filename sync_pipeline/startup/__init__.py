"""A folder for PYTHONPATH; what it holds is not imported as a part of the package."""
