"""A JSON object as requests hold them: known fields, of just their types; null is as absent, everywhere."""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationInfo
from pydantic_core import PydanticCustomError, PydanticUseDefault, core_schema

MOST_UNKNOWN = 8  # names in one request that nothing here has: so many are told in the refusal
SHOWN = 80  # characters that a message repeats of what a request holds


def shown(text: str) -> str:
    """The text as far as a message repeats it."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}.."


def wrong(message: str, param: str) -> PydanticCustomError:
    """An error of a field that only the whole object shows."""
    return PydanticCustomError("wrong", "{reason}", {"reason": message, "param": param})


class UnknownNamesError(Exception):
    """A request with more unknown names than are told: raised in the middle of its validation, which ends there."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"{', '.join(names)} and more: are not known here; leave them out")
        self.names = names


class UnknownNames(list[str]):
    """The unknown names of one request so far: the `context` of its validation."""

    def add(self, name: str) -> None:
        """Raises UnknownNamesError where there are too many."""
        self.append(shown(name))
        if len(self) >= MOST_UNKNOWN:
            raise UnknownNamesError(self)


def _counted(name: str, info: ValidationInfo) -> str:
    if isinstance(info.context, UnknownNames):
        info.context.add(name)
    return name


def _default_for_null(value: object) -> object:
    if value is None:
        raise PydanticUseDefault
    return value


def _takes_null(schema: Any) -> bool:
    """Whether it has been changed already: one model's schema is asked for many times."""
    return schema["type"] == "function-after" and schema["function"]["function"] is _default_for_null


def _fields(schema: Any) -> dict[str, Any]:
    """The fields in the schema of a model, around which its validators are."""
    while "fields" not in schema:
        schema = schema["schema"]
    return cast(dict[str, Any], schema["fields"])


class Request(BaseModel):
    """Fields that are known, of just the types that they have in JSON; others may only be null, which says nothing."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
    __pydantic_extra__: dict[Annotated[str, AfterValidator(_counted)], None]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Lets each field that has a default take null for it."""
        schema = handler(source)
        for field in _fields(schema).values():
            default = field["schema"]
            if default["type"] == "default" and not _takes_null(default["schema"]):
                nullable = core_schema.nullable_schema(default["schema"])
                default["schema"] = core_schema.no_info_after_validator_function(_default_for_null, nullable)
        return schema
