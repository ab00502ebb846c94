"""The one ancestor of every error that the pipeline raises on purpose."""


class SyncPipelineError(Exception):
    """An error whose text is meant for the user: one clear line of what, where and what to do, free of secrets."""
