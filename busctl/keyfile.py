"""Where the keys of encrypted messages are: BUSCTL_KEY_COMMAND, BUSCTL_KEY_FILE, or `keys.toml` beside the config file.

They are fetched when the first encrypted message is seen or made, not before.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

if TYPE_CHECKING:
    from busctl_lib.codecs import Keyring

FILE_VARIABLE = "BUSCTL_KEY_FILE"
COMMAND_VARIABLE = "BUSCTL_KEY_COMMAND"


def key_path() -> Path:
    """Where the key file is looked for."""
    given = os.environ.get(FILE_VARIABLE)
    return Path(given) if given else platformdirs.user_config_path("busctl", appauthor=False) / "keys.toml"


def load_keys() -> Keyring | None:
    """Fetch the keys; None when there are none and nobody named any.

    Raises:
        ConfigError: what was named cannot be read, or others can read it too.
    """
    from busctl_lib.codecs import Keyring

    command = os.environ.get(COMMAND_VARIABLE)
    if command:
        return Keyring.from_command(command)
    path = key_path()
    if not path.exists() and not os.environ.get(FILE_VARIABLE):
        return None
    return Keyring.from_file(path)
