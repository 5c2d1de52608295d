"""What an expression is said to read is all that it reads: its results do not change without the rest."""

from __future__ import annotations

import jq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busctl_lib.jq_fields import fields_read

DOCUMENT = {
    "queue": "orders",
    "body": {"n": 3, "symbol": "AAPL", "tags": ["a", "b"], "text": None},
    "headers": {"x-retry": 2, "text": "inner"},
    "text": "the body",
    "size": 42,
}

atoms = st.sampled_from(
    [
        *(".body", ".body.n", ".text", ".headers", '.headers["x-retry"]', ".body.tags[0]", ".body.tags[]", ".nothing"),
        *(".queue?", ".size", ".", "..", "1", "2.5e1", '"AAPL"', '"a ( b"', '") |"', "null", "true", "[]", "{}", '"#"'),
        *(
            "length",
            "keys",
            "tostring",
            "select(.size)",
            "not",
            '"\\(.text)"',
            "$ENV | type",
            "[.text]",
            "{text}",
            "# (",
        ),
        *("{text}", "# (", ".body as $b | .text", "def f: .text; f", "if .size then .text end"),
    ]
)
expressions = st.recursive(
    atoms,
    lambda inner: st.builds(
        lambda left, joint, right, shape: shape.format(f"{left}{joint}{right}"),
        inner,
        st.sampled_from([" | ", " == ", " and ", " or ", " + ", ", ", " // ", " < ", "\n", " | . as $x | "]),
        inner,
        st.sampled_from(["{}", "({})", "({}).text", "({})[0]?", "{} | tostring", "select({})", "[{}]", "{} # )"]),
    ),
    max_leaves=5,
)


def results(expression: str, document: object) -> object:
    try:
        return jq.compile(expression).input_value(document).all()
    except ValueError as error:
        return str(error)


@settings(max_examples=200, deadline=None)
@given(expressions)
def test_its_results_are_the_same_without_what_it_does_not_read(expression: str) -> None:
    reads = fields_read(expression)
    if reads is not None:
        least = {name: value for name, value in DOCUMENT.items() if name in reads}
        assert results(expression, least) == results(expression, DOCUMENT)


@pytest.mark.parametrize(
    ("expression", "reads"),
    [
        ('.body.symbol == "MSFT"', {"body"}),
        ('.body.n > 3 and (.headers["x-retry"] // 0) < 2', {"body", "headers"}),
        ("(.body.tags | length) > 1 or .size >= 10", {"body", "size"}),
        ('.body.symbol | test("^A") and (. | length) == 4', {"body"}),
        ('.routing_key | startswith("orders.")', {"routing_key"}),
        ("true", set()),
    ],
)
def test_the_expressions_people_type_need_little(expression: str, reads: set[str]) -> None:
    assert fields_read(expression) == frozenset(reads)


@pytest.mark.parametrize(
    "expression",
    [
        *(".", "..", 'tostring | contains("x")', "select(.size > 1) | .text", ".body as $b | .text", "keys"),
        *(
            '"\\(.text)"',
            "(.body | 1 # (\n) == .text # )",
            "[.body, .text]",
            "{text}",
            ".[]",
            '.["text"]',
            ".size |= 3",
        ),
    ],
)
def test_where_it_cannot_be_certain_it_says_so(expression: str) -> None:
    assert fields_read(expression) is None
