"""What an answer looks like, and whether anybody still waits for it."""

from __future__ import annotations

import time
import uuid
from typing import Any

from busctl_lib.amqp.replies import DIRECT_REPLY_TO
from busctl_lib.codecs import JSON, encode_json
from busctl_lib.envelope import Envelope, Properties

ERROR_HEADER = "busctl-error"
"""Of an error reply: the type of the error."""
ERROR_TEXT_HEADER = "busctl-error-message"
"""Of an error reply: its text."""
DEADLINE_HEADER = "busctl-deadline"
"""Of a request: until when its caller waits, in milliseconds since 1970."""
_TEXT_LIMIT = 1000


def deadline_of(request: Properties) -> float | None:
    """Until when the caller of a request waits (seconds since 1970); None where it does not say."""
    deadline = (request.headers or {}).get(DEADLINE_HEADER)
    return deadline / 1000 if isinstance(deadline, int | float) and not isinstance(deadline, bool) else None


def is_expired(request: Properties) -> bool:
    """Whether the caller has stopped waiting for this request."""
    deadline = deadline_of(request)
    return deadline is not None and time.time() > deadline


def reply_envelope(request: Properties, result: Any) -> Envelope:
    """The reply to a request; its `reply_to` must be set."""
    return body_envelope(request, encode_json(result))


def error_envelope(request: Properties, kind: str, text: str) -> Envelope:
    """The reply that says the request failed."""
    headers = {ERROR_HEADER: kind[:_TEXT_LIMIT], ERROR_TEXT_HEADER: text[:_TEXT_LIMIT]}
    return body_envelope(request, encode_json({"error": kind, "message": text}), headers=headers)


def body_envelope(
    request: Properties, body: bytes, *, content_type: str = JSON, headers: dict[str, Any] | None = None
) -> Envelope:
    """The reply to a request with a body as it is; its `reply_to` must be set."""
    assert request.reply_to
    properties = Properties(
        content_type=content_type,
        delivery_mode=1 if request.reply_to.startswith(DIRECT_REPLY_TO) else 2,
        correlation_id=request.correlation_id,
        message_id=uuid.uuid4().hex,
        timestamp=int(time.time()),
        headers=headers,
    )
    return Envelope(exchange="", routing_key=request.reply_to, properties=properties, body=body)
