"""The body pipeline: message <-> wire body.

`encode_json` and `decode_json` are a message's own form. `encode_body` compresses and encrypts an envelope's body and
says so in `content_encoding`; `decode_body` undoes what the headers say, under a limit on what comes out. How it looks
on the wire, for readers without this library: docs/message-conventions.md.
"""

from __future__ import annotations

from busctl_lib.codecs.bodies import NOT_JSON as NOT_JSON
from busctl_lib.codecs.bodies import Body as Body
from busctl_lib.codecs.bodies import read_json as read_json
from busctl_lib.codecs.charsets import write_text as write_text
from busctl_lib.codecs.encryption import KEY_ID_HEADER as KEY_ID_HEADER
from busctl_lib.codecs.json import JSON as JSON
from busctl_lib.codecs.json import decode_json as decode_json
from busctl_lib.codecs.json import encode_json as encode_json
from busctl_lib.codecs.keyrings import Keyring as Keyring
from busctl_lib.codecs.keyrings import new_key as new_key
from busctl_lib.codecs.pipeline import COMPRESSIONS as COMPRESSIONS
from busctl_lib.codecs.pipeline import LIMIT_BYTES as LIMIT_BYTES
from busctl_lib.codecs.pipeline import Compression as Compression
from busctl_lib.codecs.pipeline import charset_written as charset_written
from busctl_lib.codecs.pipeline import decode_body as decode_body
from busctl_lib.codecs.pipeline import encode_body as encode_body
from busctl_lib.codecs.pipeline import is_plain as is_plain
from busctl_lib.codecs.pipeline import require_compression as require_compression
from busctl_lib.codecs.pipeline import steps_named as steps_named
from busctl_lib.codecs.pipeline import steps_of as steps_of
from busctl_lib.codecs.pipeline import without_steps as without_steps
