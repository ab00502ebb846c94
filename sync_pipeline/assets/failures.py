"""An error of the pipeline as the failure that Dagster shows: one sentence, and metadata to filter and alert by."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.sources.errors import SourceError
from sync_pipeline.sync.errors import SyncError, SyncFailedError


@contextmanager
def shown_as_failure(where: Mapping[str, str]) -> Iterator[None]:
    """Raise the pipeline's own errors as `dagster.Failure`, with `where` (a live mapping) for what they leave open.

    Retries are refused in the failure itself: neither an op's retry policy nor a run retry may repeat a range behind
    the user's back. Whatever is not one of ours passes through as it is.
    """
    try:
        yield
    except SyncPipelineError as error:
        raise dg.Failure(description=str(error), metadata={**where, **_facts(error)}, allow_retries=False) from error


def _facts(error: SyncPipelineError) -> Mapping[str, dg.MetadataValue[Any] | str | int]:
    if isinstance(error, SourceError | SyncError):
        return error.metadata()
    if isinstance(error, SyncFailedError):
        listed = dg.JsonMetadataValue([one.metadata() for one in error.errors])
        return {**error.metadata(), "errors": listed}
    return {"error_message": str(error)}
