"""Topic keys and patterns: does a key match, and does one pattern cover all that another one matches."""

from __future__ import annotations


def matches(pattern: str, routing_key: str) -> bool:
    """Tell whether a topic exchange routes `routing_key` by a binding with `pattern`."""
    return _covers(_words(pattern), frozenset([0]), [f"={word}" for word in _words(routing_key)])


def covers(pattern: str, other: str) -> bool:
    """Tell whether every routing key that `other` matches is matched by `pattern` too."""
    return _covers(
        _words(pattern), frozenset([0]), [word if word in ("*", "#") else f"={word}" for word in _words(other)]
    )


def _words(key: str) -> list[str]:
    return key.split(".") if key else []


def _covers(pattern: list[str], at: frozenset[int], other: list[str]) -> bool:
    """Run `pattern` over `other` from the places `at`; a wildcard of `other` is a word that no literal equals."""
    at = _past_hashes(pattern, at)
    for index, step in enumerate(other):
        if step == "#":
            return all(_covers(pattern, places, other[index + 1 :]) for places in _after_any_words(pattern, at))
        at = _step(pattern, at, step)
    return len(pattern) in at


def _after_any_words(pattern: list[str], at: frozenset[int]) -> list[frozenset[int]]:
    """Where the pattern can be after none, one, two ... unknown words: each must be good for what follows."""
    seen: list[frozenset[int]] = []
    while at not in seen:
        seen.append(at)
        at = _step(pattern, at, "*")
    return seen


def _step(pattern: list[str], at: frozenset[int], step: str) -> frozenset[int]:
    after: set[int] = set()
    for place in at:
        if place == len(pattern):
            continue
        word = pattern[place]
        if word == "#":
            after.add(place)
        elif word == "*" or step == f"={word}":
            after.add(place + 1)
    return _past_hashes(pattern, frozenset(after))


def _past_hashes(pattern: list[str], at: frozenset[int]) -> frozenset[int]:
    """Add the places behind each `#`, which may stand for no word at all."""
    closed = set(at)
    for place in sorted(at):
        while place < len(pattern) and pattern[place] == "#":
            place += 1
            closed.add(place)
    return frozenset(closed)
