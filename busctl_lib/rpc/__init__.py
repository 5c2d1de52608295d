"""Request and reply: calls, servers, measurements, and what can be learnt from other parties' calls.

The conventions, both ways: the reply carries the request's correlation id; a failed request is answered with the header
`busctl-error` (the error's type) and a body `{"error": type, "message": text}`; a request whose header
`busctl-deadline` (milliseconds since 1970) is past is not worked on, since nobody waits any more.
"""

from __future__ import annotations

from busctl_lib.rpc.answers import DEADLINE_HEADER as DEADLINE_HEADER
from busctl_lib.rpc.answers import ERROR_HEADER as ERROR_HEADER
from busctl_lib.rpc.answers import ERROR_TEXT_HEADER as ERROR_TEXT_HEADER
from busctl_lib.rpc.answers import error_envelope as error_envelope
from busctl_lib.rpc.answers import is_expired as is_expired
from busctl_lib.rpc.answers import reply_envelope as reply_envelope
from busctl_lib.rpc.calls import TIMEOUT_MAX_S as TIMEOUT_MAX_S
from busctl_lib.rpc.calls import Reply as Reply
from busctl_lib.rpc.calls import RPCConsumer as RPCConsumer
from busctl_lib.rpc.server import Request as Request
from busctl_lib.rpc.server import RPCServer as RPCServer
