"""The rights that a way to see messages takes."""

from __future__ import annotations

from busctl_lib.rights import Need, Rights, needs
from busctl_lib.taps.leases import TRACE_EXCHANGE
from busctl_lib.taps.plans import TAP_PREFIX, TapPlan, Verdict


def needs_of(plan: TapPlan) -> list[Need]:
    """The rights that the user must have in the plan's virtual host, beside tags."""
    if plan.way not in ("copy", "firehose"):
        return [Need(verb="read", kind="queue", name=plan.queue or "")]
    keys = {(TRACE_EXCHANGE, f"publish.{name}") for name in plan.publishes_to}
    if plan.way == "copy":
        keys = {(binding.exchange, binding.routing_key) for binding in plan.bindings}
    bound = [Need(verb="read", kind="exchange", name=name, routing_key=key) for name, key in sorted(keys)]
    return [*needs_of_own_queue(), *bound]


def needs_of_own_queue() -> list[Need]:
    """The rights to the queue of a copy or a firehose, which dead-letters to nowhere by the default exchange."""
    return [
        *needs(("configure", "write", "read"), TAP_PREFIX),
        Need(verb="write", kind="exchange", name="amq.default"),
    ]


def require_rights(verdict: Verdict, rights: Rights | None) -> None:
    """Refuse a way that takes a right which the user is known not to have."""
    if rights is not None and verdict.refusal is None and verdict.plan is not None:
        verdict.refusal = rights.refusal(needs_of(verdict.plan))
