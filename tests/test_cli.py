"""How the program begins, prints and ends."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from api_at_socket import refusing_port

from busctl.cli import exits, main, output
from busctl.cli.exits import ExitCode, exit_code_for
from busctl.cli.progress import Progress
from busctl.config import config_path
from busctl.demo.registry import registered
from busctl.views.queues import QUEUES
from busctl_lib import errors
from busctl_lib.management import Details, MessageStats, QueueInfo

BUSY = QueueInfo(
    name="obs_requests",
    vhost="/",
    type="quorum",
    state="running",
    messages=12_345,
    messages_ready=12_145,
    messages_unacknowledged=200,
    messages_details=Details(rate=41.0),
    consumers=1,
    message_stats=MessageStats(publish_details=Details(rate=412.0), deliver_get_details=Details(rate=0.25)),
)
HOSTILE = QueueInfo(name="\x1b[31m注文\t\n", vhost="/")
COLUMNS = QUEUES.select(["name", "messages", "in", "state"])


def printed(capsysbinary: pytest.CaptureFixture[bytes]) -> str:
    return capsysbinary.readouterr().out.decode()


def test_a_table_is_aligned_plain_and_whole_when_it_is_piped(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    output.write_list(QUEUES, [BUSY, HOSTILE], output.Format.TABLE, COLUMNS)
    assert printed(capsysbinary) == (
        "NAME              TOTAL  IN/s  STATE\n"
        "obs_requests      12.3k   412  ▲ growing 41/s\n"
        "\\x1b[31m注文\\t\\n      \u2013     \u2013  \u2013\n"
    )


def test_json_lines_are_the_names_of_the_api(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    output.write_list(QUEUES, [BUSY, HOSTILE], output.Format.JSONL)
    assert printed(capsysbinary) == (
        '{"name":"obs_requests","vhost":"/","type":"quorum","state":"running","messages":12345,"messages_ready":12145,'
        '"messages_unacknowledged":200,"messages_details":{"rate":41.0},"consumers":1,'
        '"message_stats":{"publish_details":{"rate":412.0},"deliver_get_details":{"rate":0.25}}}\n'
        '{"name":"\\u001b[31m注文\\t\\n","vhost":"/"}\n'
    )


def test_json_is_one_array(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    output.write_list(QUEUES, [HOSTILE], output.Format.JSON)
    assert printed(capsysbinary) == '[\n  {\n    "name": "\\u001b[31m注文\\t\\n",\n    "vhost": "/"\n  }\n]\n'
    output.write_list(QUEUES, [], output.Format.JSON)
    assert printed(capsysbinary) == "[]\n"


def test_tsv_has_numbers_in_full_and_nothing_for_the_unknown(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    output.write_list(QUEUES, [BUSY, HOSTILE], output.Format.TSV, COLUMNS)
    assert printed(capsysbinary) == (
        "name\tmessages\tin\tstate\nobs_requests\t12345\t412.0\tgrowing 41/s\n\\x1b[31m注文\\t\\n\t\t\t\n"
    )


def test_on_a_terminal_a_table_is_coloured_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    long = QueueInfo(name="a" * 80 + "the-end", vhost="/", messages=3, consumers=0)
    shown = output.table(COLUMNS, [long])
    assert "\x1b[33m∅ no consumer\x1b[0m" in shown
    row = re.sub(r"\x1b\[\d+m", "", shown.splitlines()[1])
    assert len(row) == 40
    assert re.match("aaa+….*end ", row), "names differ at both ends"
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in output.table(COLUMNS, [long])


# --- exit codes


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("x"), 2),
        (errors.InvalidMessage("x"), 2),
        (errors.CannotConnect("x"), 3),
        (errors.LoginRefused("x"), 3),
        (errors.VhostNotFound("x"), 3),
        (errors.LinkLost("x"), 3),
        (errors.ApiUnreachable("x"), 3),
        (errors.ApiLoginRefused("x"), 3),
        (errors.NotFound("x"), 4),
        (errors.AccessForbidden("x"), 4),
        (errors.PreconditionFailed("x"), 4),
        (errors.ApiForbidden("x"), 4),
        (errors.TimedOut("x"), 5),
        (errors.ReplyTimeout("x"), 5),
        (errors.Unroutable("x"), 6),
        (errors.NoResponder("x"), 6),
        (errors.RemoteError("x"), 7),
        (errors.GuardRefused("x"), 9),
        (errors.Nacked("x"), 1),
        (errors.ApiError("x"), 1),
        (errors.BusError("x"), 1),
        (ValueError("x"), 1),
        (KeyboardInterrupt(), 130),
        (exits.Terminated(), 130),
        (exits.PipeClosed(), 0),
    ],
)
def test_every_error_has_its_exit_code(error: BaseException, code: int) -> None:
    assert exit_code_for(error) == code


def test_an_error_is_one_safe_line_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    code = exits.report(errors.NotFound("no queue 'a\x1b[2Jb\n'", hint="see busctl queues"))
    assert code == ExitCode.REFUSED
    assert capsys.readouterr().err == "busctl: no queue 'a\\x1b[2Jb\\n' (see busctl queues)\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.CannotConnect("no link", hint="is it up?"), "(is it up? no broker is named: `busctl contexts add"),
        (errors.VhostNotFound("no vhost 'x'"), "(`busctl vhosts` lists what there is)"),
        (errors.AccessForbidden("refused"), "`busctl permissions` lists who has which"),
        (errors.ApiForbidden("may not PUT"), "`busctl contexts check` tells what this user may not"),
        (errors.ApiForbidden("no tag", hint="ask for it"), "(ask for it)"),
        (errors.PublishRefused("ACCESS_REFUSED", outcome="REFUSED"), "`busctl permissions` lists who has which"),
    ],
)
def test_an_error_tells_the_next_command(
    error: errors.BusError, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BUSCTL_AMQP_URL", "BUSCTL_API_URL"):
        monkeypatch.delenv(name, raising=False)
    config_path().parent.mkdir(parents=True, exist_ok=True)
    config_path().touch()  # the last context was removed: still no broker is named
    exits.report(error)
    assert said in capsys.readouterr().err


def test_the_log_of_a_node_that_did_not_start_stands_below_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    exits.report(errors.SandboxError("it ended\nits log ends so:\nfirst\x1b[2J\nlast", hint="mend it"))
    assert capsys.readouterr().err == "busctl: it ended (mend it)\nits log ends so:\nfirst\\x1b[2J\nlast\n"


def test_a_running_demo_is_not_made_current_and_the_answer_says_how_it_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with registered("amqp://demo", "http://demo") as name:
        assert main.run(["contexts", "use", name]) == 2
    assert f"-c {name} names it for a command, export BUSCTL_CONTEXT={name} for this shell" in capsys.readouterr().err


def test_a_traceback_is_shown_only_with_debug(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise errors.TimedOut("too late")
    except errors.TimedOut as error:
        exits.report(error)
        assert "Traceback" not in capsys.readouterr().err
        exits.report(error, debug=True)
        assert "Traceback" in capsys.readouterr().err


def test_what_went_to_stdout_stands_before_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    both = io.StringIO()
    monkeypatch.setattr(sys, "stdout", both)
    monkeypatch.setattr(sys, "stderr", both)
    output.write("data\n")
    exits.note("talk")
    assert both.getvalue() == "data\ntalk\n"


# --- the command line, in this process


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["quues"], "Did you mean 'queues'?"),
        (["queues", "--nope"], "No such option"),
        (["queues", "-o", "xml"], "'--output': 'xml' is not one of"),
        (["tail", "q", "-n", "x"], "a whole number is needed"),
        (["demo", "--rate", "x"], "a number is needed"),
        (["delete", "orders"], "there are: queue, exchange, binding, vhost; see: busctl delete --help"),
        (["-o", "json", "queues"], "the options of a command stand behind its name"),
        (["queues", "--columns", "nmae"], "did you mean name?"),
        (["queues", "--sort", "-mesages"], "did you mean messages?"),
        (["queues", "--watch", "5x"], "write 500ms"),
        (["-c", "nowhere", "queues"], "no context 'nowhere'"),
        (["queues", "-c", "nowhere"], "no context 'nowhere'"),
        (["queues", "--amqp-url", "http://x"], "amqp://"),
        (["demo", "--rate", "nan"], "--rate must be above 0"),
        (["queues", "--vhost", "\udcff"], "--vhost: '\\udcff' is not valid UTF-8"),
    ],
)
def test_a_wrong_command_line_is_two_and_says_what_is_right(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main.run([*arguments, *_broker_that_refuses(arguments)]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def _broker_that_refuses(arguments: list[str]) -> list[str]:
    return [] if "--amqp-url" in arguments or "quues" in arguments else ["--api-url", "http://127.0.0.1:1"]


def test_without_a_terminal_and_a_command_it_is_help_and_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([]) == 2
    out = capsys.readouterr().out
    for name in main.COMMANDS:
        assert name in out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("busctl ")


def test_every_command_shows_help_with_the_flags_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    for name in main.COMMANDS:
        assert main.run([name, "--help"]) == 0
        out = capsys.readouterr().out
        assert "--api-url" in out
        assert "--debug" in out
        assert not re.search(r"<(bool|int|int range|float)>|\[\[", out), "types that say nothing, brackets twice"


@pytest.mark.parametrize("flag", ["-c", "--vhost", "--amqp-url", "--api-url", "--bus-file"])
def test_a_flag_that_a_script_left_empty_is_told_not_taken_for_none(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ((flag, "", "contexts"), ("contexts", flag, "")):
        assert main.run(words) == 2
        assert "is empty" in capsys.readouterr().err


def test_progress_stays_on_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with Progress() as line:
        line.show("reading " + "a long name " * 20)
    (text,) = [part for part in re.split(r"\r|\x1b\[K", shown.getvalue()) if part]
    assert (len(text), text[-1]) == (79, "…")


def test_help_is_no_command_and_answers_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["tail"], ["contexts", "add"]):
        assert main.run([*words, "--help"]) == 0
        meant = capsys.readouterr().out
        assert (main.run(["help", *words]), capsys.readouterr().out) == (0, meant)
        assert "help " not in re.sub("--help", "", meant)
    assert main.run(["help", "tial"]) == 2
    assert "tail" in capsys.readouterr().err


def test_nobody_on_the_port_is_three(capsys: pytest.CaptureFixture[str]) -> None:
    port = refusing_port()
    for name in ("queues", "overview"):
        assert main.run([name, "--api-url", f"http://127.0.0.1:{port}"]) == 3
        err = capsys.readouterr().err
        assert "connection refused" in err
        assert str(port) in err


def test_a_running_demo_is_meant_where_nothing_is_configured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    api = f"http://guest:guest@127.0.0.1:{refusing_port()}"
    with registered("amqp://demo", api) as name:
        assert main.run(["queues"]) == 3
        said = capsys.readouterr().err
        assert f"this is the running demo (context {name})" in said
        assert api.rpartition(":")[2] in said
        monkeypatch.setenv("BUSCTL_API_URL", f"http://127.0.0.1:{refusing_port()}")
        assert main.run(["queues"]) == 3
        assert "demo" not in capsys.readouterr().err
        monkeypatch.delenv("BUSCTL_API_URL")
        config_path().parent.mkdir(parents=True, exist_ok=True)
        config_path().write_text(f'[contexts.mine]\napi_url = "{api}"\n')
        main.run(["queues"])
        assert "demo" not in capsys.readouterr().err


def test_debug_is_understood_before_and_after_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--debug", "queues"], ["queues", "--debug"]):
        main.run([*arguments, "--api-url", f"http://127.0.0.1:{refusing_port()}"])
        assert "Traceback" in capsys.readouterr().err


def test_the_global_flags_belong_to_one_run_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(ctx: typer.Context) -> None:
        seen.append(ctx.obj.context)

    monkeypatch.setattr("busctl.cli.queues.queues", spy)
    main.run(["-c", "a", "queues"])
    main.run(["queues", "-c", "b"])
    main.run(["-c", "a", "queues", "-c", "b"])
    main.run(["queues"])
    assert seen == ["a", "b", "b", None]


# --- the program as a process


@contextlib.contextmanager
def start(code: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path.cwd(),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()  # leaving the block would wait for it for ever


CLEANING = """
import sys, time
from busctl.cli import exits, main, output
def command():
    try:
        output.write_line("ready")
        while True:
            output.write_line("more") if WRITES else time.sleep(5)
    finally:
        print("given back", file=sys.stderr)
sys.modules["busctl.cli.queues"] = type(sys)("busctl.cli.queues")
sys.modules["busctl.cli.queues"].queues = command
sys.argv = ["busctl", "queues"]
main.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_command_with_everything_given_back(number: int) -> None:
    with start(CLEANING.replace("WRITES", "False")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, "given back\n")


@pytest.mark.parametrize(("ignored", "sent"), [("INT", [signal.SIGINT]), ("HUP", [signal.SIGHUP, signal.SIGTERM])])
def test_in_a_scripts_background_ctrl_c_counts_and_nohup_is_kept(ignored: str, sent: list[int]) -> None:
    told = CLEANING.replace('"given back"', 'f"ended by {sys.exc_info()[1]!r}"').replace("WRITES", "False")
    with start(f"import signal; signal.signal(signal.SIG{ignored}, signal.SIG_IGN)\n{told}") as ran:
        assert ran.stdout is not None
        assert ran.stdout.readline() == "ready\n"
        for number in sent:
            ran.send_signal(number)
        _, err = ran.communicate(timeout=10)
    ended_by = "KeyboardInterrupt()" if ignored == "INT" else "Terminated('SIGTERM')"
    assert (ran.returncode, err) == (130, f"ended by {ended_by}\n")


def test_a_closed_pipe_ends_a_command_quietly_with_everything_given_back() -> None:
    with start(CLEANING.replace("WRITES", "True")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == "given back\n"
    assert process.returncode == 0


def test_a_reader_that_left_is_noticed_without_writing() -> None:
    reading, writing = os.pipe()
    code = "import sys; from busctl.cli import output; sys.stdin.readline(); sys.exit(7 if output.reader_gone() else 8)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=writing, text=True) as process:
        os.close(writing)
        os.close(reading)
        process.communicate("go\n", timeout=10)
    assert process.returncode == 7


def test_a_reader_that_leaves_help_ends_it_quietly() -> None:
    script = f"{sys.executable} -m busctl --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_nowhere_and_never_a_connection(closed: str) -> None:
    code = (
        "import os, sys; from busctl.cli import exits; exits.fill_missing_streams(); "
        "print('data', flush=True); print('talk', file=sys.stderr, flush=True); sys.stdin.read(); "
        "sys.exit(0 if os.open(os.devnull, os.O_RDONLY) > 2 else 1)"
    )
    script = f"'{sys.executable}' -c \"{code}\" {closed}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=20, check=False, input="")
    said = ("" if " >" in f" {closed}" else "data\n", "" if "2>" in closed else "talk\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, *said)
    script = f"'{sys.executable}' -m busctl --version {closed}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full here")
def test_a_full_disk_is_told_on_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "busctl", "rpc", "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "busctl: standard output cannot be written: No space left on device\n")
