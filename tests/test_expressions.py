"""Expressions: jq compiled at once, failures that stop nothing, runaways that are stopped."""

import json

import pytest

from busctl.cli import exits
from busctl_lib.errors import ExpressionFailed, ExpressionInvalid, ExpressionTimedOut
from busctl_lib.expressions import BATCH_MESSAGES, Expression, GuardedExpression

ORDER = {"queue": "orders", "headers": {"retries": 2}, "body": {"symbol": "AAPL", "quantity": 100}}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('.body.symbol == "AAPL"', True),
        (".body.quantity > 100", False),
        (".body.nothing", False),
        (".headers.retries", True),
        ("empty", False),
        ("false, true", True),
        ('(.body | has("symbol")) # a comment', True),
        ("def big: .quantity >= 100; .body | big", True),
    ],
)
def test_a_value_matches_when_any_result_is_true(text: str, found: bool) -> None:
    expression = Expression(text)
    assert expression.matches(ORDER) is found
    assert expression.trouble is None
    with GuardedExpression(expression) as guarded:
        assert guarded.matches([json.dumps(ORDER).encode()]) == [found]
        assert guarded.failed == 0


@pytest.mark.parametrize(
    ("text", "line", "column", "under"),
    [
        (".body | foo(", 1, 12, "("),
        (".body |\n  nofunc", 2, 3, "n"),
        ('"é€ü" | nofunc', 1, 9, "n"),
        ("", 1, 1, ""),
        ("# nothing", 1, 1, "#"),
        (".a\0 | junk", 1, 3, "\0"),
        (".a \ud800", 1, 4, "\ud800"),
    ],
)
def test_a_bad_expression_says_where_with_a_caret_under_it(text: str, line: int, column: int, under: str) -> None:
    with pytest.raises(ExpressionInvalid) as caught:
        Expression(text, "--jq")
    error = caught.value
    assert (error.line, error.column) == (line, column)
    assert str(error).startswith("--jq: ")
    shown, caret = error.picture.split("\n")
    assert shown[caret.index("^") :][:1] == under
    assert exits.exit_code_for(error) == exits.ExitCode.USAGE


def test_an_expression_that_fails_on_a_value_is_no_match_and_says_so_once() -> None:
    expression = Expression(".body.symbol.deeper")
    assert not expression.matches(ORDER)
    assert expression.trouble is not None
    assert "Cannot index string" in expression.trouble
    with pytest.raises(ExpressionFailed, match="Cannot index string"):
        expression.all(ORDER)
    lines = [json.dumps(ORDER).encode(), b'{"body": {"symbol": {"deeper": true}}}', b"{not json}"]
    with GuardedExpression(expression) as guarded:
        assert guarded.matches(lines) == [False, True, False]
        assert guarded.failed == 2
        assert guarded.trouble is not None
        assert "Cannot index string" in guarded.trouble


def test_results_come_in_order_and_keep_null_apart_from_nothing() -> None:
    expression = Expression(".a[]?", "--jq")
    assert expression.all({"a": [1, None, "x"]}) == [1, None, "x"]
    assert expression.first({"a": [7, 8]}) == 7
    assert expression.first({}) is None
    with GuardedExpression(expression) as guarded:
        found = guarded.results([b'{"a":[1,null,{"b":"\\u00e9"}]}', b"{}"])
        assert [[bytes(one) for one in results] for results in found] == [[b"1", b"null", '{"b":"é"}'.encode()], []]


def test_a_flow_of_many_messages_keeps_its_order() -> None:
    documents = [b'{"n":%d}' % number for number in range(3 * BATCH_MESSAGES + 7)]
    with GuardedExpression(Expression(".n % 3 == 0")) as guarded:
        assert guarded.matches(documents) == [number % 3 == 0 for number in range(len(documents))]
        assert guarded.matches([]) == []


@pytest.mark.parametrize("text", ["last(repeat(1))", "[repeat(.)]"])
def test_a_runaway_expression_is_stopped(text: str) -> None:
    guarded = GuardedExpression(Expression(text), deadline_s=0.3)
    with guarded, pytest.raises(ExpressionTimedOut, match="stopped") as caught:
        guarded.matches([b"{}"])
    assert exits.exit_code_for(caught.value) == exits.ExitCode.TIMED_OUT


def test_an_expression_that_halts_ends_nothing_else() -> None:
    with GuardedExpression(Expression("if .n == 1 then halt_error else true end")) as guarded:
        assert guarded.matches([b'{"n":0}', b'{"n":1}', b'{"n":2}']) == [True, False, True]
