"""What every mapping of a configuration has in common."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator

B = TypeVar("B", bound="Block")


class Block(BaseModel):
    """A mapping with known keys. Validated with a dict as context, it notes there, by the id
    of the mapping it was given, which block that mapping was read as."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @classmethod
    def keys_known(cls) -> set[str]:
        """The keys as they are written."""
        return {field.alias or name for name, field in cls.model_fields.items()}

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: object, info: ValidationInfo) -> object:
        if data is None:
            return {}
        if not isinstance(data, dict):
            return data
        if info.context is not None:
            info.context[id(data)] = cls
        known = cls.keys_known()
        return {key: value for key, value in data.items() if value is not None or key not in known}


def overlay(base: B, over: B) -> B:
    """`base` with what was written in `over`, block by block."""
    written: dict[str, Any] = {name: getattr(over, name) for name in over.model_fields_set}
    return base.model_copy(
        update={
            name: overlay(getattr(base, name), value) if isinstance(value, Block) else value
            for name, value in written.items()
        }
    )
