"""Filters and fields on the wire; what they mean is said in `ingest.filters` and `ingest.fields`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, InstanceOf, WithJsonSchema

from ingest.fields import InvalidField, checked
from ingest.filters import All, AnyOf, Condition, InvalidFilter, Not
from ingest.filters.wire import from_json
from service.schemas.wire import Request


def _filter(value: Any) -> Any:
    try:
        understood = value is None or isinstance(value, Condition | All | AnyOf | Not)
        return value if understood else from_json(value)
    except InvalidFilter as error:
        raise ValueError(str(error)) from error


def _fields(value: Any) -> Any:
    try:
        return checked(value) if isinstance(value, dict) else value
    except InvalidField as error:
        raise ValueError(str(error)) from error


_SHOWN = 'author = "Li" and year >= 2020 or tags in (law, tax)'
_AnyFilter = InstanceOf[Condition] | InstanceOf[All] | InstanceOf[AnyOf] | InstanceOf[Not]
#: Which documents are looked at: the written form, or a tree of objects.
Filters = Annotated[
    _AnyFilter,
    BeforeValidator(_filter),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "maxLength": 20_000}, {"type": "object"}],
            "description": f"only documents that pass: {_SHOWN}; or as a tree of "
            '{"field", "op", "value"}, {"and": []}, {"or": []} and {"not": {}}',
            "examples": [_SHOWN, {"field": "year", "op": ">=", "value": 2020}],
        }
    ),
]
_SCALAR: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]}
#: The user's fields; null takes one away.
Fields = Annotated[
    dict[str, Any],
    BeforeValidator(_fields),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {
                "anyOf": [*_SCALAR["anyOf"], {"type": "array", "items": _SCALAR}, {"type": "null"}]
            },
            "maxProperties": 64,
            "examples": [{"author": "Li", "year": 2020, "tags": ["law", "tax"], "draft": None}],
        }
    ),
]


class DocumentPatch(Request):
    """`PATCH /documents/{id}`: fields to set; null takes one away, those not named stay."""

    metadata: Fields = Field(description="numbers, texts, dates (ISO 8601) and lists of these, by name")
