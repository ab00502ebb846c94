"""Where to go after signing in."""

import unicodedata

MAXIMUM_LENGTH = 2000


def safe_next(value: str, path_prefix: str = "") -> str:
    """Return the path if it surely stays on this host, else the start page.

    Browsers remove control characters and read a backslash as a slash, and two leading slashes begin a host name.
    """
    stays = (
        value.startswith("/")
        and not value.startswith("//")
        and "\\" not in value
        and len(value) <= MAXIMUM_LENGTH
        and not any(character.isspace() or unicodedata.category(character).startswith("C") for character in value)
    )
    return value if stays else f"{path_prefix}/"
