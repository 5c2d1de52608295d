"""What an expression is said to read is all that it reads, and what it decides without a field it decides with any."""

from __future__ import annotations

from typing import Any

import jq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busctl_lib.jq_fields import fields_read, has_path, reading_of, shown

DOCUMENT: dict[str, Any] = {
    "queue": "orders",
    "body": {"n": 3, "symbol": "AAPL", "tags": ["a", "b"], "text": None},
    "headers": {"x-retry": 2, "text": "inner"},
    "text": "the body",
    "size": 42,
}
BODIES: list[Any] = [None, False, True, 0, 3, "AAPL", [], ["a"], {}, {"n": 0, "text": 1}, DOCUMENT["body"]]

atoms = st.sampled_from(
    [
        *(".body", ".body.n", ".text", ".headers", '.headers["x-retry"]', ".body.tags[0]", ".body.tags[]", ".nothing"),
        *(".queue?", ".size", ".", "..", "1", "2.5e1", '"AAPL"', '"a ( b"', '") |"', "null", "true", "[]", "{}", '"#"'),
        *("length", "keys", "tostring", "select(.size)", "not", '"\\(.text)"', "$ENV | type", "[.text]", "{text}"),
        *("# (", ".body as $b | .text", "def f: .text; f", "if .size then .text end", '.["body"]', '."body"'),
        *('has("body")', 'has("text")', 'has("nothing")', "[.body]", "[]", ".body?", ".body.n?", "-.body.n", "empty"),
        *("first(.body)", "isempty(.body.tags[])", "any(.body.tags[]; . == 1)", "any(.body)", "all(.size; .body)"),
        *(
            "try .body",
            "try error(.body) catch .",
            ".body[.size]",
            ".headers[.text]",
            "$__loc__",
            "error",
            ".body //= 1",
        ),
        *("if .body then .size else .text end", "if .size > 1 then 1 elif .body then 2 else 3 end", "map(.n)?"),
    ]
)
expressions = st.recursive(
    atoms,
    lambda inner: st.builds(
        lambda left, joint, right, shape: shape.format(f"{left}{joint}{right}"),
        inner,
        st.sampled_from(
            [" | ", " == ", " and ", " or ", " + ", ", ", " // ", " < ", "\n", " | . as $x | ", " ?// ", " |= ", "; "]
        ),
        inner,
        st.sampled_from(
            [
                *("{}", "({})", "({}).text", "({})[0]?", "{} | tostring", "select({})", "[{}]", "{} # )", "({}).body"),
                *("first({})", "any({}; .body)", "all({}; .n)", "if {} then 1 end", "if .size then {} else 0 end"),
                *("try ({})", "({})?", "({}) // .size", "isempty({})", ".headers[{}]", "[{}] | any", "select({}).body"),
                *("select({}) | .body", "reduce ({}) as $i (0; 1)", "label $f | ({}, break $f)", "limit(1; {})"),
            ]
        ),
    ),
    max_leaves=5,
)


def decided(expression: str, document: object, end: str = "") -> bool | None:
    """Whether it is true of a document; None where it fails, or does not come to its end."""
    seen = False
    try:
        for result in jq.compile(f"({expression}\n){end}").input_value(document):
            if end and result == "the end":
                return False
            seen = True
            if result is not None and result is not False:
                return True
    except ValueError:
        return None
    return None if end else seen and False


@settings(max_examples=400)
@given(expressions)
def test_it_decides_the_same_without_what_it_does_not_read(expression: str) -> None:
    reads = fields_read(expression)
    if reads is not None:
        least = {name: value for name, value in DOCUMENT.items() if name in reads}
        assert decided(expression, least) == decided(expression, DOCUMENT)


@settings(max_examples=600)
@given(expressions, st.sampled_from(BODIES))
def test_what_is_decided_without_a_value_is_decided_so_with_any(expression: str, body: Any) -> None:
    reading = reading_of(expression)
    if reading is None:
        return
    spared = reading.without({"body"})
    try:
        jq.compile(expression)
    except ValueError:
        return
    document = DOCUMENT | {"body": body}
    if 'has("body")' not in expression:
        found = decided(spared, document, ', "the end"')
        assert found in (None, decided(expression, document) or False)
        less = {name: value for name, value in document.items() if name != "body"}
        assert decided(spared, less, ', "the end"') == found


@pytest.mark.parametrize(
    ("expression", "reads"),
    [
        ('.body.symbol == "MSFT"', {"body"}),
        ('.body.n > 3 and (.headers["x-retry"] // 0) < 2', {"body", "headers"}),
        ("(.body.tags | length) > 1 or .size >= 10", {"body", "size"}),
        ('.body.symbol | test("^A") and (. | length) == 4', {"body"}),
        ('.routing_key | startswith("orders.")', {"routing_key"}),
        ("true", set()),
        ('has("body") | not', {"body"}),
        ('has("body") and .size > 1', {"body", "size"}),
        ("select(.size > 1) | .text", {"size", "text"}),
        ("select(.size > 1)", {"size"}),
        ("[.body, .text] | any", {"body", "text"}),
        ('.["text"] == ."queue"', {"text", "queue"}),
        ("any(.body.tags[]; . == .text)", {"body"}),
        ("if .size > 1 then .body.n else .text end", {"size", "body", "text"}),
        (".headers[.properties.type]", {"headers", "properties"}),
        ('.headers["#"] == "# no comment"', {"headers"}),
        ('(.properties.type | IN("a", "b")) and .body.n?', {"properties", "body"}),
        (".body | to_entries | any(.value == 1)", {"body"}),
        (".size > ($ENV.MOST | tonumber)", {"size"}),
    ],
)
def test_the_expressions_people_type_need_little(expression: str, reads: set[str]) -> None:
    assert fields_read(expression) == frozenset(reads)


@pytest.mark.parametrize(
    "expression",
    [
        *(".", "..", 'tostring | contains("x")', ".body as $b | .text", "keys", '"\\(.text)"', "{text}", ".[]"),
        *("(.body | 1 # (\n) == .text # )", ".size |= 3", "any(.body)", "(select(.a)).body", "select(.a).body"),
        *("select(.a), .b | .body", "first(select(.a), 1) | .body", "if .a then 1 end | .body", "getpath(.a)"),
        *("(if .a then select(.b) else 1 end) | .body", ". == 1", "to_entries", ".body |= 1", "def f: 1; f", "(.a"),
        "any(select(.a), 1; .body)",
        *("[select(.a)] | .[0].body", "limit(1; .body)", ".a)", "try .a catch .", "if .a then 1", "..|.body"),
    ],
)
def test_where_it_cannot_be_certain_it_says_so(expression: str) -> None:
    assert fields_read(expression) is None


@pytest.mark.parametrize(
    ("expression", "paths"),
    [
        ('.body.symbol == "MSFT"', {".body.symbol"}),
        ('.headers["x-retry"] > 1 and .headers."a b"', {'.headers["x-retry"]', '.headers["a b"]'}),
        (".body | .simbol == 1", {".body.simbol"}),
        (".body.items[] | select(.qty > 3)", {".body.items[].qty"}),
        ("any(.body.items[]; .qty > 3)", {".body.items[].qty"}),
        (".body.items | any(.qty > 3)", {".body.items[].qty"}),
        ("select(.body.a) | .body.b", {".body.a", ".body.b"}),
        ("(.body.a // .body.b)?.c", {".body.a", ".body.b"}),
        (".body.items[0].qty? // 0", {".body.items[0].qty"}),
        (".body.a | tostring | .b", {".body.a"}),
        (".body.items | map(.qty) | add > 3", {".body.items[].qty"}),
        (".body.items | sort_by(.qty) | .[0].x", {".body.items"}),
        (".body | . as $all | .a", {".body"}),
        (".body.items | reduce .[] as $i (0; . + $i.qty)", {".body.items[]"}),
        (".a.b or .a", {".a.b"}),
        ("true", set()),
    ],
)
def test_the_paths_that_it_reads_are_known(expression: str, paths: set[str]) -> None:
    reading = reading_of(expression)
    assert reading is not None
    assert {shown(path) for path in reading.paths} == paths


def test_a_path_leads_to_what_is_there() -> None:
    value = {"a": [{"b": None}, {"c": 1}], "x y": {"0": 1}}
    for path in [(), ("a",), ("a", 0, "b"), ("a", -1, "c"), ("a", None, "c"), ("x y", "0"), (None, None, "b")]:
        assert has_path(value, path), path
    for path in [("b",), ("a", "b"), ("a", 2), ("a", None, "d"), ("x y", 0), ("a", 0, "b", "c"), (0,)]:
        assert not has_path(value, path), path
