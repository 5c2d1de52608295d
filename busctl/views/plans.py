"""Transfers in words: a plan, how far it is, how it ended. Foreign texts among them: make them safe to show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from busctl.views import formats

if TYPE_CHECKING:
    from busctl_lib.journal import Operation
    from busctl_lib.transfers import Account, Plan, Progress, Target

_TARGETS_SHOWN = 12


def parking(queue: str) -> str:
    """Where messages of a queue are put aside."""
    return f"{queue}.parked"


def verb(kind: str) -> str:
    """What an operation of a kind does."""
    return {"undo": "put back"}.get(kind, kind)


def plan_lines(plan: Plan) -> list[tuple[str, str]]:
    """A plan in words: labels and texts, foreign ones among them."""
    waiting = formats.counted(plan.waiting, "message")
    lines = [("plan", f"{verb(plan.request.kind)} {plan.selected:,} of {waiting} of {plan.source}")]
    for target in plan.targets[:_TARGETS_SHOWN]:
        lines.append(("to", f"{_where(target)}  {formats.counted(target.count, 'message')}, {_reach(target)}"))
    if len(plan.targets) > _TARGETS_SHOWN:
        lines.append(("", f"and {len(plan.targets) - _TARGETS_SHOWN:,} more routes"))
    lines += [("stays", f"{formats.counted(count, 'message')}: {reason}") for reason, count in plan.stays.items()]
    if plan.request.kind == "replay":
        lines += _headers(plan)
    if plan.adds:
        lines.append(("adds", ", ".join(plan.adds)))
    if plan.replayed_before:
        most = formats.counted(plan.most_replays, "time")
        lines.append(("before", f"{plan.replayed_before:,} replayed before, at most {most}"))
    lines += _undecided(plan)
    lines += _pace(plan)
    lines += [("drops", sentence) for sentence in plan.overfull]
    lines += [("onward", sentence) for sentence in plan.passes_on]
    lines += [("note", warning) for warning in plan.warnings]
    lines += [("edit", line) for line in plan.diff]
    return lines


def _headers(plan: Plan) -> list[tuple[str, str]]:
    """What is taken away by name, and what stays that a consumer may give up for."""
    lines = []
    if plan.unwrapped:
        lines.append(("unwraps", f"{plan.unwrapped:,} from reports about their failure, which are not sent"))
    if plan.removes:
        names = [f"{name} ({count:,})" for name, count in plan.removes.items()]
        lines.append(("removes", ", ".join(names)))
    if plan.counters:
        names = [f"{name} ({count:,})" for name, count in plan.counters.items()]
        lines.append(("keeps", f"{', '.join(names)}: they count attempts, and a consumer may give up at once"))
    return lines


def _undecided(plan: Plan) -> list[tuple[str, str]]:
    if not plan.undecided:
        return []
    from busctl_lib.expressions import in_words

    take = plan.request.undecided == "take"
    what = "taken all the same" if take else "left where they are; --undecided take takes them"
    lines = [("undecided", f"{formats.counted(plan.undecided, 'message')}, {what}")]
    return lines + [("", in_words(why, count)) for why, count in plan.undecided_why.items()]


def _pace(plan: Plan) -> list[tuple[str, str]]:
    asked = plan.request
    lines = []
    if asked.canary:
        watched = formats.duration(asked.watch_s)
        lines.append(("canary", f"{asked.canary:,} first, watched for {watched}; no more if one of them comes back"))
    elif asked.watch_s:
        lines.append(("watch", f"for {formats.duration(asked.watch_s)} afterwards: whether they come back"))
    if asked.rate:
        lines.append(("pace", f"at most {formats.rate(asked.rate)}/s"))
    return lines


def _where(target: Target) -> str:
    if not target.exchange:
        return f"queue {target.routing_key}" if target.routing_key else "the trash"
    return f"exchange {target.exchange}, key {target.routing_key}"


def _reach(target: Target) -> str:
    if target.problem:
        return f"which would stay: {target.problem}"
    if target.choose:
        return f"reaches {', '.join(target.choose)} as well: choose --route original or --route queue"
    if not target.exchange and not target.routing_key:
        return "kept on this machine"
    return f"reaches {', '.join(target.queues)}" if target.queues else "not checked"


def progress_line(progress: Progress) -> str:
    """How far it is, in one line."""
    left = f"  {formats.duration(progress.left_s)} left" if progress.left_s is not None else ""
    return f"{progress.phase} {done_line(progress)}  {formats.rate(progress.rate)}/s{left}"


def done_line(progress: Progress) -> str:
    """What is done, without how fast."""
    kept = progress.returned + progress.failed
    stays = f"  {kept:,} stay" if kept else ""
    return f"{progress.done:,} of {progress.planned:,}{stays}"


def summary(operation: Operation) -> str:
    """An operation's end in one line."""
    parts = [f"{operation.moved:,} of {operation.planned:,}"]
    parts += [f"{operation.returned:,} returned"] if operation.returned else []
    parts += [f"{operation.failed:,} failed"] if operation.failed else []
    parts += [f"{operation.unknown:,} unknown"] if operation.unknown else []
    parts += [f"{operation.undecided:,} undecided and left"] if operation.undecided else []
    return f"{operation.kind} {operation.id} {operation.state}: {', '.join(parts)}"


def account_lines(account: Account) -> list[str]:
    """How it ended, beside its summary."""
    lines = [f"{count:,} stayed: {reason}" for reason, count in account.reasons.items()]
    if account.operation.undecided:
        from busctl_lib.expressions import in_words

        why = account.operation.plan.get("plan", {}).get("undecided_why", {})
        lines += [f"left, since undecided: {in_words(reason, count)}" for reason, count in why.items()]
    if account.gone:
        lines.append(f"{account.gone:,} had been taken by somebody else")
    lines += [f"{back.count:,} came back: {back.cause} (group {back.group})" for back in account.came_back or []]
    if account.came_back == []:
        lines.append("none came back while watched")
    return lines
