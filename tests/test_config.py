"""Where settings come from, and which wins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from busctl.config import Flags, Settings, config_path, resolve, without_password
from busctl_lib.errors import ConfigError

FILE = """
current = "local"

[contexts.local]
amqp_url = "amqp://ann:one@local:5673/dev"

[contexts.prod]
amqp_url = "amqps://ops:two@prod"
api_url = "https://api.prod:443/mq"
vhost = "trading"
production = true
read_only = true
color = "red"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    def make(text: str = FILE, env: dict[str, str] | None = None, **flags: str) -> Settings:
        path = tmp_path / "config.toml"
        path.write_text(text)
        return resolve(Flags(**flags), env or {}, path)

    return make


def test_without_anything_it_is_guest_at_localhost(tmp_path: Path) -> None:
    found = resolve(Flags(), {}, tmp_path / "absent.toml")
    assert found.amqp_url == "amqp://guest:guest@localhost:5672/%2F"
    assert found.api_url == "http://guest:guest@localhost:15672"
    assert (found.vhost, found.context, found.read_only) == ("/", None, False)


def test_the_current_context_is_used_when_none_is_named(settings: Callable[..., Settings]) -> None:
    found = settings()
    assert found.context == "local"
    assert found.amqp_url == "amqp://ann:one@local:5673/dev"
    assert found.api_url == "http://ann:one@local:15672"
    assert found.vhost == "dev"


def test_a_named_context_brings_its_guards_and_its_api_takes_the_credentials_of_amqp(
    settings: Callable[..., Settings],
) -> None:
    found = settings(context="prod")
    assert found.amqp_url == "amqps://ops:two@prod:5671/trading"
    assert found.api_url == "https://ops:two@api.prod:443/mq"
    assert (found.production, found.read_only, found.color) == (True, True, "red")


def test_an_api_address_is_derived_from_the_amqp_host(settings: Callable[..., Settings]) -> None:
    assert settings(amqp_url="amqps://a:b@h/v").api_url == "https://a:b@h:15671"
    assert settings(amqp_url="amqp://[::1]:7").api_url == "http://guest:guest@[::1]:15672"


def test_flags_win_over_the_environment_and_that_over_the_file(settings: Callable[..., Settings]) -> None:
    env = {"BUSCTL_AMQP_URL": "amqp://env:e@env/x", "BUSCTL_API_URL": "http://api-env:1", "BUSCTL_VHOST": "y"}
    found = settings(env=env)
    assert found.amqp_url == "amqp://env:e@env:5672/y"
    assert found.api_url == "http://env:e@api-env:1"
    assert found.context is None
    found = settings(env=env, amqp_url="amqp://flag/z")
    assert found.amqp_url == "amqp://guest:guest@flag:5672/z"
    assert settings(env=env, vhost="w").vhost == "w"
    assert settings(env={"BUSCTL_CONTEXT": "prod"}).context == "prod"


def test_a_context_named_by_a_flag_is_taken_whole(settings: Callable[..., Settings]) -> None:
    env = {"BUSCTL_AMQP_URL": "amqp://env", "BUSCTL_API_URL": "http://env", "BUSCTL_VHOST": "y"}
    found = settings(env=env, context="local")
    assert (found.amqp_url, found.api_url) == ("amqp://ann:one@local:5673/dev", "http://ann:one@local:15672")


def test_an_address_given_above_a_context_does_not_meet_the_api_of_another_broker(
    settings: Callable[..., Settings],
) -> None:
    found = settings(context="prod", amqp_url="amqp://other")
    assert found.api_url == "http://guest:guest@other:15672"
    assert found.read_only, "a guard that was asked for by name stays"
    found = settings(env={"BUSCTL_AMQP_URL": "amqp://other"})
    assert (found.context, found.api_url) == (None, "http://guest:guest@other:15672")


def test_a_vhost_may_hold_a_slash_and_a_question_mark(settings: Callable[..., Settings]) -> None:
    found = settings(amqp_url="amqp://h/a%2Fb?heartbeat=5", vhost="c/d?e")
    assert found.amqp_url == "amqp://guest:guest@h:5672/c%2Fd%3Fe?heartbeat=5"
    assert settings(amqp_url="amqp://h/a%2Fb").vhost == "a/b"


def test_every_value_can_say_where_it_came_from_without_its_password(settings: Callable[..., Settings]) -> None:
    explained = {name: (value, source) for name, value, source in settings(context="prod", vhost="w").explain()}
    assert explained["vhost"] == ("w", "flag")
    assert explained["amqp_url"][0] == "amqps://ops:***@prod:5671/w"
    assert "contexts.prod" in explained["amqp_url"][1]
    assert explained["context"] == ("prod", "flag -c")
    assert "two" not in repr(settings(context="prod"))


def test_a_password_is_blotted_out_wherever_it_stands() -> None:
    assert without_password("amqp://u:p%40ss@h:1/v") == "amqp://u:***@h:1/v"
    assert without_password("amqp://u@h") == "amqp://u@h"
    assert without_password("amqp://h:5672/v") == "amqp://h:5672/v"
    assert "cret" not in without_password("amqp://u:se/cr@et@h"), "also where it should have been percent-encoded"
    assert "12" not in without_password("amqp://u:12/x@h")


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("[contexts.a]\nread_olny = true", "unknown key contexts.a.read_olny", "did you mean read_only?"),
        ("curent = 'a'", "unknown key curent", "did you mean current?"),
        ("[contexts.a]\nread_only = 'yes'", "contexts.a.read_only: expected `bool`, got `str`", None),
        ("contexts = 3", "contexts: expected `table`, got `int`", None),
        ("current = 'prd'\n[contexts.prod]", "no context 'prd'", "did you mean prod?"),
        ("a = ", "is not TOML", None),
    ],
)
def test_an_error_in_the_file_names_file_key_and_the_right_key(
    settings: Callable[..., Settings], text: str, said: str, hint: str | None
) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(text)
    assert said in str(caught.value)
    assert caught.value.hint == hint


def test_an_unknown_context_names_the_nearest(settings: Callable[..., Settings]) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(context="prd")
    assert caught.value.hint == "did you mean prod?"


@pytest.mark.parametrize("url", ["http://h", "localhost", "amqp://", "amqp://u:se/cret@h", "amqp://u:secret@h:port"])
def test_an_amqp_address_that_cannot_be_one_is_refused_without_repeating_it(
    settings: Callable[..., Settings], url: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(amqp_url=url)
    assert "cret" not in str(caught.value)


def test_the_config_file_lives_in_the_config_folder_of_the_platform() -> None:
    assert config_path().name == "config.toml"
    assert config_path().parent.name == "busctl"
