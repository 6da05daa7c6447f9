"""What every part of the fleet file has in common."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A part of the fleet file: frozen, with unknown keys rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")
