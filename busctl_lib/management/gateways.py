"""What stands before an API and answers in its place: a redirect, a limit of requests, a gateway without a broker."""

from __future__ import annotations

import math
import re
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urljoin

from busctl_lib.errors import ApiUnreachable
from busctl_lib.management.connections import Answer

BROKERS_SERVER = "cowboy"
"""What the broker calls its web server, in small letters; most proxies put their own name there."""
NOT_RABBITMQ = "not an answer of RabbitMQ"
_LOGIN = re.compile(r"//[^/?#]*@")
_REASONS: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "it wants a login of its own",
    HTTPStatus.FORBIDDEN: "it does not let this through",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "this is too much for it to pass on",
    HTTPStatus.REQUEST_URI_TOO_LONG: "this address is too long for it to pass on",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "this address is too long for it to pass on",
    HTTPStatus.TOO_MANY_REQUESTS: "too many requests",
    HTTPStatus.BAD_GATEWAY: "it does not reach the broker",
    HTTPStatus.SERVICE_UNAVAILABLE: "it has no broker to ask, or no room",
    HTTPStatus.GATEWAY_TIMEOUT: "the broker did not answer it in time",
}


def is_gateways(status: int) -> bool:
    """Whether RabbitMQ itself never answers so."""
    return 300 <= status < 400 or status == HTTPStatus.TOO_MANY_REQUESTS


def gateway_error(answer: Answer, what: str, asked: str, url: str) -> ApiUnreachable:
    """Make the error for an answer that is not the broker's.

    Args:
        answer: With a status other than 2xx.
        what: The request, in the words of the error.
        asked: Its whole address.
        url: Of the API.
    """
    status, by = answer.status, answer.headers.get("server", "")
    said = f"{url} answered {what} with {status}{f' (by {by})' if by and by.lower() != BROKERS_SERVER else ''}"
    pause_s = _pause_s(answer.headers.get("retry-after", ""))
    facts: dict[str, object] = {"status": status, "url": url, "retry_after_s": pause_s}
    if 300 <= status < 400:
        return _redirected(said, answer.headers.get("location", ""), asked, facts)
    again = "try again later" if pause_s is None else f"try again in {math.ceil(pause_s)} s"
    reason = _REASONS.get(status, f"{answer.reason} ({NOT_RABBITMQ})")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        reason += f", it wants a pause of {math.ceil(pause_s)} s" if pause_s is not None else ""
        hint = again
    elif status >= 500:
        hint = f"is the broker running? Ask its own address, or {again}"
    elif status in _REASONS:
        hint = "ask the broker's own address; a proxy before it may be set up for less than its API takes"
    else:
        hint = "is this the port of the management API? An Apache before it needs `AllowEncodedSlashes NoDecode`"
    return ApiUnreachable(f"{said}: {reason}", hint=hint, reason=reason, **facts)


def _redirected(said: str, location: str, asked: str, facts: dict[str, object]) -> ApiUnreachable:
    location = _LOGIN.sub("//", location)
    try:
        leads_to = urljoin(asked, location) if location else ""
    except ValueError:
        leads_to = location
    reason = f"it leads to {leads_to}" if leads_to else "it leads elsewhere and does not say where"
    root, is_api, _ = leads_to.partition("/api/")
    own = f": {root}" if is_api else ""
    hint = f"no other address is asked in its place; if that is the broker's, name it as the address of the API{own}"
    return ApiUnreachable(f"{said}: {reason}", hint=hint, reason=reason, location=leads_to, **facts)


def _pause_s(text: str) -> float | None:
    """Read Retry-After: seconds, or a date."""
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
