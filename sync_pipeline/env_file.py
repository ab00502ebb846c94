"""The `.env` file of a folder, whose variables join the environment."""

import io
from pathlib import Path

from sync_pipeline.files import MAX_CONFIGURATION_BYTES, FileMissingError, FileReadError, read_text_file


def load_env_file(folder: Path) -> None:
    """Set the variables of the folder's `.env` that the environment does not have; without the file, do nothing.

    Raises FileReadError where the file is not UTF-8 text or a line of it is not `NAME=value`.
    """
    from dotenv import load_dotenv
    from dotenv.parser import parse_stream

    file = folder / ".env"
    try:
        text = read_text_file(file, MAX_CONFIGURATION_BYTES)
    except FileMissingError:
        return
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            # The original begins with the blank lines before it. It is not quoted, since it may hold a secret.
            original = binding.original
            line = original.line + original.string[: len(original.string) - len(original.string.lstrip())].count("\n")
            raise FileReadError(file, f"cannot be used: line {line} is not NAME=value")
    load_dotenv(stream=io.StringIO(text))
