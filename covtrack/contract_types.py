"""The types that the machine contract's models are made of. Pure."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic.json_schema import SkipJsonSchema

BRANCH_KEYS = ("branches", "branches_covered")


def _to_utf8(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value


def _drop_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


Utf8 = Annotated[str, BeforeValidator(_to_utf8)]
Number = Annotated[int, Field(ge=0)]
OptionalNumber = Annotated[
    Number | SkipJsonSchema[None], Field(default=None, json_schema_extra=_drop_default)
]
Percent = Annotated[float, Field(ge=0, le=100)]
Seconds = Annotated[float, Field(ge=0)]


def _allow_later_keys(schema: dict[str, Any]) -> None:
    schema.pop("additionalProperties", None)


class Model(BaseModel):
    """Base of all models; `from_attributes` takes the values of results and of stored rows."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        from_attributes=True,
        use_attribute_docstrings=True,
        json_schema_extra=_allow_later_keys,
    )


class Counted(Model):
    """Base of models whose branch counts stand beside only where branches were measured."""

    @model_serializer(mode="wrap")
    def _leave_out_branches(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        shown: dict[str, Any] = handler(self)
        return {k: v for k, v in shown.items() if v is not None or k not in BRANCH_KEYS}
