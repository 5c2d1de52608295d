"""`busctl contexts`: brokers by name, and passwords that show nowhere."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
from api_at_socket import refusing_port

from busctl import contexts, passwords
from busctl.cli import exits, main
from busctl.config import Flags, resolve
from busctl.demo.registry import registered
from busctl.session import Session
from busctl_lib.errors import CannotConnect, ConfigError

Run = Callable[..., tuple[int, str, str]]
SECRET = "s3cret/p@ss"  # also needs percent-encoding
COMMENTED = """# my brokers
current = "b"   # the usual one

[contexts.b]
vhost = "dev"
amqp_url = "amqp://ann@b:5673" # behind the tunnel

# the old one
[contexts.a]
amqp_url = "amqp://a"
"""


class AtTerminal(io.StringIO):
    """What was typed; a terminal once a test says so."""


@pytest.fixture
def path() -> Path:
    return contexts.config_path()


@pytest.fixture
def written(path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", AtTerminal(stdin))
        capfd.readouterr()
        code = main.run(arguments)
        captured = capfd.readouterr()
        return int(code), captured.out, captured.err

    return run


def at_terminal(monkeypatch: pytest.MonkeyPatch, answer: str) -> list[str]:
    """Let the password prompt be answered; gives what was asked."""
    asked: list[str] = []
    monkeypatch.setattr(passwords, "ask", lambda text: asked.append(text) or answer)
    return asked


def names(run: Run) -> list[tuple[str, bool]]:
    return [(info["name"], info["current"]) for info in json.loads(run("contexts", "-o", "json")[1])]


# --- the file


def test_a_context_is_added_chosen_and_removed(run: Run, path: Path) -> None:
    assert run("contexts", "-o", "json") == (0, "[]\n", "")
    guards = ("--production", "--read-only", "--color", "red")
    assert run("contexts", "add", "prod", "--amqp-url", "amqps://mq.prod", "--vhost", "trade", *guards)[0] == 0
    assert run("contexts", "add", "dev", "--amqp-url", "amqp://dev", "--api-url", "http://dev:1")[0] == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == [path.name]
    assert run("contexts", "use", "prod")[0] == 0
    found = resolve(Flags())
    assert (found.context, found.vhost, found.production, found.read_only, found.color) == (
        *("prod", "trade"),
        *(True, True, "red"),
    )
    assert run("contexts", "-o", "tsv")[1] == (
        "current\tname\taddress\tvhost\tmarks\n"
        "\tdev\tamqp://dev:5672\t/\t\n"
        "current\tprod\tamqps://mq.prod:5671\ttrade\tproduction, read-only\n"
    )
    assert "●  prod" in " ".join(run("contexts")[1].split("\n"))
    assert run("contexts", "remove", "prod", "--yes")[0] == 0
    assert names(run) == [("dev", False)]


def test_comments_and_order_are_kept(run: Run, written: Callable[[str], Path]) -> None:
    path = written(COMMENTED)
    path.chmod(0o644)
    run("contexts", "add", "c", "--amqp-url", "amqp://c")
    assert run("contexts", "use", "a")[0] == 0
    text = path.read_text()
    expected = COMMENTED.replace('current = "b"', 'current = "a"')
    for line in expected.splitlines():
        assert line in text
    assert text.index("[contexts.b]") < text.index("# the old one") < text.index("[contexts.a]")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    run("contexts", "remove", "c", "--yes")
    run("contexts", "use", "b")
    assert path.read_text().replace('previous = "a"\n', "").split() == COMMENTED.split()


def test_a_link_to_a_file_elsewhere_stays_a_link(run: Run, path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(parents=True)
    real = tmp_path / "dotfiles.toml"
    real.write_text(COMMENTED)
    path.symlink_to(real)
    assert run("contexts", "use", "a")[0] == 0
    assert path.is_symlink()
    assert 'current = "a"' in real.read_text()


def test_the_previous_context(run: Run, written: Callable[[str], Path]) -> None:
    written("[contexts.a]\namqp_url = 'amqp://a'\n[contexts.b]\namqp_url = 'amqp://b'\n")
    code, _, err = run("contexts", "use", "-")
    assert (code, "no previous context" in err) == (2, True)
    for name in ("a", "b"):
        assert run("contexts", "use", name)[0] == 0
    assert resolve(Flags(context="-")).context == "a"
    assert resolve(Flags()).context == "b"
    assert run("contexts", "use", "-")[2] == "context a is current now\n"
    assert run("contexts", "use", "-")[2] == "context b is current now\n"
    run("contexts", "remove", "a", "--yes")
    with pytest.raises(ConfigError, match="no previous"):
        resolve(Flags(context="-"))


def test_removing_asks_first(run: Run, written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    written(COMMENTED)
    code, _, err = run("contexts", "remove", "a")
    assert (code, "--yes" in err) == (2, True)
    monkeypatch.setattr(AtTerminal, "isatty", lambda self: True)
    code, out, err = run("contexts", "remove", "a", stdin="n\n")
    assert (code, out.strip(), "nothing was removed" in err) == (9, "", True)
    assert "a" in dict(names(run))
    assert run("contexts", "remove", "a", stdin="y\n")[0] == 0
    assert "a" not in dict(names(run))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("use", "bb"), "did you mean b?"),
        (("remove", "zzz", "--yes"), "there are: a, b"),
        (("add", "a", "--amqp-url", "amqp://x"), "already"),
        (("add", "-", "--amqp-url", "amqp://x"), "cannot name a context"),
        (("add", "c"), "needs --amqp-url"),
        (("add", "c", "--amqp-url", "http://x"), "amqp://"),
        (("add", "c", "--amqp-url", "amqp://x", "--password-env", "A", "--password-command", "b"), "both"),
    ],
)
def test_what_cannot_be_done_says_why_and_changes_nothing(
    run: Run, written: Callable[[str], Path], arguments: tuple[str, ...], said: str
) -> None:
    path = written(COMMENTED)
    code, out, err = run("contexts", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert path.read_text() == COMMENTED


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("# x\n\n[contexts.a]\nvhost = 'v'\nread_olny = true\n", 5, "read_only"),
        ("curent = 'a'\n", 1, "current"),
        ("[contexts.a]\n[contexts.'b.c']\nprodution = true\n", 3, "production"),
        ("[contexts]\na = { vhots = 'x' }\n", 2, "vhost"),
        ("\ncontexts.a.pasword_env = 'x'\n", 2, "password_env"),
    ],
)
def test_an_unknown_key_is_told_with_its_line(
    run: Run, written: Callable[[str], Path], text: str, line: int, hint: str
) -> None:
    path = written(text)
    code, _, err = run("contexts")
    assert code == 2
    assert f"{path}, line {line}: unknown key" in err
    assert f"did you mean {hint}?" in err


def test_a_value_of_the_wrong_type_is_told_with_its_line(run: Run, written: Callable[[str], Path]) -> None:
    path = written("[contexts.a]\nvhost = 'v'\nread_only = 'yes'\n")
    assert f"{path}, line 3: contexts.a.read_only: expected `bool`" in run("contexts")[2]


def test_a_password_without_an_address_is_told_what_it_lacks(run: Run, written: Callable[[str], Path]) -> None:
    path = written("[contexts.a]\npassword_env = 'MQ_PASS'\n")
    told = f"{path}, line 2: contexts.a: password_env without address (add its amqp_url, or host)"
    assert told in run("contexts")[2]


def test_a_file_that_is_no_text_is_told_by_name_alone(run: Run, written: Callable[[str], Path]) -> None:
    path = written("")
    path.write_bytes(b"[contexts.\xff]")
    assert f"cannot read {path}: it is not UTF-8 text" in run("contexts")[2]


def test_a_running_demo_is_listed_but_is_nobodys_current(run: Run) -> None:
    with registered("amqp://guest:hush@127.0.0.1:4/%2F", "http://guest:hush@127.0.0.1:5"):
        code, out, _ = run("contexts", "-o", "json")
        (info,) = json.loads(out)
        assert (code, info["name"], info["running_demo"], info["current"]) == (0, "demo", True, True)
        assert "hush" not in out
        assert "-c demo" in run("contexts", "use", "demo")[2]


# --- passwords


def test_a_password_on_the_command_line_is_not_stored_unless_that_is_asked_for(run: Run, path: Path) -> None:
    url = "amqp://ann:hush@h"
    code, out, err = run("contexts", "add", "a", "--amqp-url", url)
    assert (code, out) == (2, "")
    for way in ("--password-stdin", "--password-env", "--password-command", "--password-keyring", "--store-password"):
        assert way in err
    assert "hush" not in err
    assert not path.exists()
    assert run("contexts", "add", "a", "--amqp-url", "amqp://h", "--api-url", "http://u:hush@h")[0] == 2
    code, out, err = run("contexts", "add", "a", "--amqp-url", url, "--store-password")
    assert (code, "hush" in out + err) == (0, False)
    assert resolve(Flags(context="a")).amqp_url.startswith(url)


def test_a_password_from_stdin_or_a_prompt_is_kept_in_the_file_and_shown_nowhere(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = ("contexts", "add", "a", "--amqp-url", "amqp://ann@h")
    code, out, err = run(*add, "--password-stdin", stdin=f"{SECRET}\n")
    assert code == 0
    assert resolve(Flags(context="a")).amqp_url == "amqp://ann:s3cret%2Fp%40ss@h:5672/%2F"
    for form in ("table", "json", "jsonl", "tsv"):
        out += "".join(map(str, run("contexts", "-o", form)))
    out += "".join(map(str, run("--debug", "contexts", "remove", "a")))
    assert "s3cret" not in out + err + repr(resolve(Flags(context="a"))) + repr(contexts.load(path))
    run("contexts", "remove", "a", "--yes")
    asked = at_terminal(monkeypatch, SECRET)
    assert run(*add)[0] == 0
    assert asked == [], "without a terminal nobody is asked"
    assert "s3cret" not in path.read_text()
    monkeypatch.setattr(AtTerminal, "isatty", lambda self: True)
    code, out, err = run(*add[:2], "b", *add[3:])
    assert (code, len(asked), "s3cret" in out + err) == (0, 1, False)
    assert resolve(Flags(context="b")).amqp_url == "amqp://ann:s3cret%2Fp%40ss@h:5672/%2F"


def test_a_user_without_a_password_is_asked_for_it_when_the_session_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = resolve(Flags(amqp_url="amqp://ann@h/v", api_url="http://h:1"))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(ConfigError, match="no terminal"):
        Session(settings)
    asked = at_terminal(monkeypatch, SECRET)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    opened = Session(settings).settings
    assert asked == ["Password of ann: "]
    assert opened.amqp_url == "amqp://ann:s3cret%2Fp%40ss@h:5672/v"
    assert opened.api_url == "http://ann:s3cret%2Fp%40ss@h:1"
    assert "s3cret" not in repr(opened) + str(opened.explain())


def test_a_password_comes_from_the_environment(written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    written("[contexts.a]\namqp_url = 'amqp://ann@h'\npassword_env = 'MQ_PASS'\n")
    settings = resolve(Flags(context="a"))
    with pytest.raises(ConfigError, match="MQ_PASS is not set"):
        Session(settings)
    monkeypatch.setenv("MQ_PASS", SECRET)
    opened = Session(settings).settings
    assert opened.amqp_url == "amqp://ann:s3cret%2Fp%40ss@h:5672/%2F"
    assert opened.api_url == "http://ann:s3cret%2Fp%40ss@h:15672"
    other = Session(resolve(Flags(context="a", amqp_url="amqp://elsewhere"))).settings
    assert "s3cret" not in other.amqp_url + other.api_url, "a password goes to the broker it belongs to"


def command_context(written: Callable[[str], Path], command: str) -> Any:
    written(f"[contexts.a]\namqp_url = 'amqp://ann@h'\npassword_command = '''{command}'''\n")
    return resolve(Flags(context="a"))


def test_a_password_comes_from_the_first_line_of_a_command_without_a_shell(written: Callable[[str], Path]) -> None:
    opened = Session(command_context(written, "printf '%s\\nuser: x' 'pa $HOME;ss'")).settings
    assert opened.amqp_url == "amqp://ann:pa%20%24HOME%3Bss@h:5672/%2F"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("/nowhere/pass x", "cannot run /nowhere/pass"),
        ("sh -c 'echo hush; exit 3'", "sh ended with 3"),
        ("true", "true printed nothing"),
        ("pass 'x", "cannot be read"),
    ],
)
def test_a_command_that_gives_no_password_is_an_error_without_its_output(
    written: Callable[[str], Path], command: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        Session(command_context(written, command))
    assert "hush" not in str(caught.value)


def test_a_command_has_a_deadline_also_when_its_children_go_on(
    written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "COMMAND_TIMEOUT_S", 0.3)
    settings = command_context(written, "sh -c 'sleep 20; echo x'")
    begun = time.monotonic()
    with pytest.raises(ConfigError, match=r"sh took more than 0\.3 s"):
        Session(settings)
    assert time.monotonic() - begun < 18


def test_a_password_is_kept_in_the_keyring(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = ("contexts", "add", "a", "--amqp-url", "amqp://ann@h", "--password-keyring", "--password-stdin")
    monkeypatch.setitem(sys.modules, "keyring", None)
    code, _, err = run(*add, stdin="hush\n")
    assert (code, "pipx inject busctl keyring" in err) == (2, True)
    assert not path.exists()

    kept: dict[tuple[str, str], str] = {}
    package: Any = ModuleType("keyring")
    package.get_password = lambda service, name: kept.get((service, name))
    package.set_password = lambda service, name, password: kept.update({(service, name): password})
    package.delete_password = lambda service, name: kept.pop((service, name))
    monkeypatch.setitem(sys.modules, "keyring", package)
    assert run(*add, stdin="hush\n")[0] == 0
    assert "hush" not in path.read_text()
    assert Session(resolve(Flags(context="a"))).settings.amqp_url.startswith("amqp://ann:hush@")
    assert run("contexts", "remove", "a", "--yes")[0] == 0
    assert kept == {}


def test_neither_help_nor_the_list_asks_for_a_password(
    run: Run, written: Callable[[str], Path], tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    written(f"current = 'a'\n[contexts.a]\namqp_url = 'amqp://u@h'\npassword_command = 'touch {ran}'\n")
    for arguments in (["contexts"], ["queues", "--help"], ["contexts", "check", "--help"]):
        assert run(*arguments)[0] == 0
    assert not ran.exists()
    assert run("queues")[0] == 2
    assert ran.exists()


# --- trying a context


def test_check_says_what_works_and_where_it_is_said(
    run: Run, vhost: Any, written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    amqp = urlsplit(vhost.amqp_url)
    api = urlsplit(vhost.api_url)
    written(
        f"[contexts.t]\npassword_env = 'T_PASS'\nvhost = '{vhost.name}'\n"
        f"amqp_url = 'amqp://{amqp.username}@{amqp.hostname}:{amqp.port}'\n"
        f"api_url = 'http://{api.hostname}:{api.port}'\n"
    )
    monkeypatch.setenv("T_PASS", vhost.password)
    code, out, err = run("contexts", "check", "t", "-o", "json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["amqp"]["works"]
    assert told["amqp"]["version"] == told["api"]["version"]
    assert told["api"]["tags"] == ["administrator"]
    assert told["missing"] == []
    assert {"name": "vhost", "value": vhost.name} in [
        {key: value[key] for key in ("name", "value")} for value in told["settings"]
    ]
    code, out, _ = run("-c", "t", "contexts", "check")
    assert "amqp       works: RabbitMQ" in out
    assert "environment variable T_PASS" in out
    monkeypatch.setenv("T_PASS", "wrong-hush")
    code, out, err = run("contexts", "check", "t")
    assert code == 3
    assert out.count("fails: ") == 2
    assert "wrong-hush" not in out + err
    assert run("contexts", "check", "no")[2] == "busctl: no context 'no' (argument NAME) (there are: t)\n"


def test_check_with_one_door_open_is_done_and_says_what_is_missing(run: Run, vhost: Any) -> None:
    closed = f"127.0.0.1:{refusing_port()}"
    code, out, _ = run("contexts", "check", "--amqp-url", vhost.amqp_url, "--api-url", f"http://{closed}")
    assert (code, "missing    overview" in out) == (0, True)
    code, out, _ = run("contexts", "check", "--amqp-url", f"amqp://{closed}", "--api-url", vhost.api_url)
    assert (code, "missing    publish" in out) == (0, True)
    assert run("contexts", "check", "--amqp-url", f"amqp://{closed}", "--api-url", f"http://{closed}")[0] == 3


def test_who_named_no_broker_is_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["busctl", "queues"])
    for name in [name for name in os.environ if name.startswith("BUSCTL_")]:
        monkeypatch.delenv(name)
    lost = CannotConnect("nobody there")
    said = exits._next(lost, exits.ExitCode.NO_CONNECTION)
    assert said is not None
    assert "`busctl contexts add NAME" in said
    assert "`busctl demo`" in said
    monkeypatch.setattr("sys.argv", ["busctl", "queues", "--api-url=http://other"])
    assert "busctl demo" not in str(exits._next(lost, exits.ExitCode.NO_CONNECTION))
    assert exits._next(lost, exits.ExitCode.USAGE) is None
