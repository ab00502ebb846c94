"""What a sensor remembers from one tick to the next."""

from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError


class SensorCursor(BaseModel):
    """A cursor that is stored as JSON."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Read what `model_dump_json` wrote; None where nothing, or something else, is there."""
        try:
            return cls.model_validate_json(text) if text else None
        except ValidationError:
            return None


class DefaultedCursor(SensorCursor):
    """A cursor that begins with the defaults of its fields."""

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Read what `model_dump_json` wrote; anything else counts as a new cursor."""
        return super().parse(text) or cls()
