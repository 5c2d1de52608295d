"""Alternate exchanges: what an exchange cannot route goes to another one. Source: https://www.rabbitmq.com/docs/ae."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from busctl_lib.management.infos import ExchangeInfo, PolicyInfo

_ALTERNATE = "alternate-exchange"
Definitions = Mapping[str, Mapping[str, Any]]
"""Of the policies of a vhost, by their names."""


def definitions_of(policies: Iterable[PolicyInfo]) -> Definitions:
    """What policies say, by their names."""
    return {policy.name: policy.definition or {} for policy in policies}


def alternate_of(exchange: ExchangeInfo, definitions: Definitions) -> str | None:
    """The exchange that gets what this one cannot route: an argument goes before the policy."""
    by_policy = definitions.get(exchange.policy or "", {}).get(_ALTERNATE)
    found = (exchange.arguments or {}).get(_ALTERNATE, by_policy)
    return found if isinstance(found, str) and found else None
