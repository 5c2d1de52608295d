"""RPC methods: what can be called, and with what."""

from __future__ import annotations

from typing import Any

from busctl.views.view import Column, View
from busctl_lib.schemas import Method
from busctl_lib.validation import describe


class _MethodView(View[Method]):
    def json(self, info: Method) -> Any:
        """Give a method as JSON values."""
        arguments = [
            {"name": field.name, "required": field.required, "expected": describe(field.type)} for field in info.fields
        ]
        return {"name": info.name, "queue": info.queue, "arguments": arguments, "help": info.help}


METHODS: View[Method] = _MethodView(
    noun="methods",
    sort="name",
    columns=(
        Column(name="name", title="METHOD", value=lambda info: info.name, text=lambda info: info.name),
        Column(
            name="arguments", title="ARGUMENTS", value=lambda info: info.signature, text=lambda info: info.signature
        ),
        Column(name="queue", title="QUEUE", value=lambda info: info.queue, text=lambda info: info.queue),
        Column(name="help", title="WHAT IT DOES", value=lambda info: info.help, text=lambda info: info.help),
    ),
)
