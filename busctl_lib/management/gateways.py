"""What stands before an API and answers in its place: a redirect, a limit of requests, a gateway without a broker."""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

from busctl_lib.errors import ApiUnreachable
from busctl_lib.management.connections import Answer

BROKERS_SERVER = "cowboy"
"""What the broker calls its web server, in small letters; most proxies put their own name there."""
_REASONS = {
    HTTPStatus.BAD_GATEWAY: "it does not reach the broker",
    HTTPStatus.SERVICE_UNAVAILABLE: "it has no broker to ask, or no room",
    HTTPStatus.GATEWAY_TIMEOUT: "the broker did not answer it in time",
}


def gateway_error(answer: Answer, what: str, asked: str, url: str, *, is_brokers: bool) -> ApiUnreachable | None:
    """Make the error for an answer that is not the broker's; None for one that says no more than its status.

    Args:
        answer: With a status other than 2xx.
        what: The request, in the words of the error.
        asked: Its whole address.
        url: Of the API.
        is_brokers: Whether it has the form of an answer of RabbitMQ.
    """
    status = answer.status
    by = answer.headers.get("server", "")
    said = f"{url} answered {what} with {status}{f' (by {by})' if by and by.lower() != BROKERS_SERVER else ''}"
    facts: dict[str, object] = {"status": status, "url": url}
    if 300 <= status < 400:
        return _redirected(said, answer.headers.get("location", ""), asked, facts)
    pause_s = _pause_s(answer.headers.get("retry-after", ""))
    again = "try again later" if pause_s is None else f"try again in {math.ceil(pause_s)} s"
    facts["retry_after_s"] = pause_s
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        reason = "too many requests" + (f", it wants a pause of {math.ceil(pause_s)} s" if pause_s is not None else "")
        return ApiUnreachable(f"{said}: {reason}", hint=again, reason=reason, **facts)
    if status not in _REASONS or is_brokers:
        return None
    reason = _REASONS[HTTPStatus(status)]
    hint = f"is the broker running? Ask its own address, or {again}"
    return ApiUnreachable(f"{said}: {reason}", hint=hint, reason=reason, **facts)


def _redirected(said: str, location: str, asked: str, facts: dict[str, object]) -> ApiUnreachable:
    try:
        to = urlsplit(urljoin(asked, location))
        leads_to = to._replace(netloc=to.netloc.rpartition("@")[2]).geturl() if location else ""
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
