"""RPC methods: what can be called, and with what."""

from __future__ import annotations

from typing import Any

from busctl.views.formats import safe_text
from busctl.views.view import Column, View
from busctl_lib.methods import Method
from busctl_lib.validation import Field, describe


class _MethodView(View[Method]):
    def json(self, info: Method) -> Any:
        """Give a method as JSON values."""
        found: dict[str, Any] = {"name": info.name, "queue": info.queue}
        if info.exchange:
            found = {"name": info.name, "exchange": info.exchange, "routing_key": info.queue}
        if info.request is not None:
            found["arguments"] = [_argument(info, field) for field in info.fields]
        if info.reply_queue is not None:
            found["reply_queue"] = info.reply_queue
        return {**found, "help": info.help}


def _argument(method: Method, field: Field) -> dict[str, Any]:
    has_default = field.name in method.defaults
    found: dict[str, Any] = {
        "name": field.name,
        "required": field.required and not has_default,
        "expected": describe(field.type),
    }
    if has_default:
        found["default"] = method.defaults[field.name]
    if field.name in method.argument_help:
        found["help"] = method.argument_help[field.name]
    return found


def explain(method: Method) -> list[tuple[str, str]]:
    """List the arguments of a method with what they may be; texts are safe."""
    lines = []
    for field in method.fields:
        about = method.argument_help.get(field.name)
        default = f"; {method.defaults[field.name]} unless given" if field.name in method.defaults else ""
        lines.append(
            (safe_text(field.name), safe_text(f"{describe(field.type)}{default}{f': {about}' if about else ''}"))
        )
    return lines


METHODS: View[Method] = _MethodView(
    noun="methods",
    sort="name",
    columns=(
        Column(name="name", title="METHOD", value=lambda info: info.name, text=lambda info: safe_text(info.name)),
        Column(
            name="arguments",
            title="ARGUMENTS",
            value=lambda info: info.signature,
            text=lambda info: safe_text(info.signature),
        ),
        Column(name="queue", title="QUEUE", value=lambda info: info.target, text=lambda info: safe_text(info.target)),
        Column(name="help", title="WHAT IT DOES", value=lambda info: info.help, text=lambda info: safe_text(info.help)),
    ),
)
