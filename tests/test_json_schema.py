"""JSON Schema files: what they say is checked, and what could not be checked is refused by its place."""

from __future__ import annotations

from typing import Any

import pytest

from busctl_lib.errors import ConfigError, InvalidMessage
from busctl_lib.json_schema import defaults_of, help_of, typed_dict
from busctl_lib.methods import Method, coerce
from busctl_lib.validation import validate

ORDER: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["symbol", "quantity", "side"],
    "additionalProperties": False,
    "properties": {
        "symbol": {"type": "string", "minLength": 1, "maxLength": 12, "description": "what to trade"},
        "quantity": {"type": "number", "exclusiveMinimum": 0},
        "side": {"enum": ["buy", "sell"]},
        "depth": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
        "note": {"type": ["string", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "address": {"$ref": "#/$defs/address"},
    },
    "$defs": {"address": {"type": "object", "properties": {"zip": {"type": "string", "pattern": "^[0-9]+$"}}}},
}
METHOD = Method("order", "orders", typed_dict("order", ORDER), fixed={}, defaults=defaults_of(ORDER))


def test_a_schema_becomes_arguments_in_its_order_with_defaults_and_help() -> None:
    assert METHOD.signature == "symbol quantity side [depth=10] [note] [tags] [address]"
    assert coerce(METHOD, ["AAPL", "2.5", "buy", "note=x"]) == {
        "symbol": "AAPL",
        "quantity": 2.5,
        "side": "buy",
        "depth": 10,
        "note": "x",
    }
    assert help_of(ORDER) == {"symbol": "what to trade"}
    assert METHOD.choices(METHOD.fields[2]) == ["buy", "sell"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["", "1", "buy"], "symbol: expected a text of 1 to 12 characters"),
        (["AAPL", "-1", "buy"], "quantity: expected a number > 0, found -1"),
        (["AAPL", "1", "by"], 'side: expected one of "buy", "sell", found "by"'),
        (["AAPL", "1", "buy", "depth=101"], "depth: expected an integer >= 1 and <= 100"),
        (["AAPL", "1", "buy", 'tags:=["a", "b", "c"]'], "tags: expected an array"),
        (["AAPL", "1", "buy", 'address:={"zip": "x"}'], "address.zip: expected a text like ^[0-9]+$"),
        (["AAPL", "1"], "side: expected"),
    ],
)
def test_what_the_schema_forbids_is_refused_by_field(words: list[str], says: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        coerce(METHOD, words)
    assert says in str(caught.value)


def test_further_fields_are_fine_only_where_the_schema_allows_them() -> None:
    validate({"a": 1, "b": 2}, typed_dict("open", {"type": "object", "properties": {"a": {"type": "integer"}}}))
    with pytest.raises(InvalidMessage, match="dept: expected one of the fields") as caught:
        coerce(METHOD, [], {"symbol": "A", "quantity": 1, "side": "buy", "dept": 1})
    assert caught.value.hint == "did you mean 'depth'?"


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ([], "#: expected a schema"),
        ({"type": "array"}, "#: the schema of a message is of an object"),
        ({"properties": {"a": {"type": "strin"}}}, "#/properties/a/type: no type 'strin'"),
        (
            {"properties": {"a": {"type": "string", "minimun": 1}}},
            "#/properties/a/minimun: 'minimun' cannot be checked",
        ),
        ({"type": "object", "not": {}}, "#/not: 'not' cannot be checked"),
        ({"properties": {"a": {"type": "string", "pattern": "("}}}, "#/properties/a: missing )"),
        ({"properties": {"a": {"$ref": "other.json"}}}, "is not in this file"),
        ({"properties": {"a": {"$ref": "#/$defs/a"}}}, "nothing is at '#/$defs/a'"),
        ({"$ref": "#"}, "refers to itself"),
        ({"properties": {"a": {"enum": []}}}, "#/properties/a/enum: expected a list of values"),
        ({"properties": {"a": {"type": 5}}}, "#/properties/a/type: no type 5"),
        ({"properties": {"a": {"type": [["string"]]}}}, "#/properties/a/type: no type ['string']"),
        ({"type": "object", "required": [["a"]]}, "#: `properties` is an object and `required` a list"),
    ],
)
def test_what_cannot_be_checked_is_refused_by_its_place(schema: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        typed_dict("message", schema)
    assert says in str(caught.value)
