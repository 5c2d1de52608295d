"""Users, permissions, shovels and federation links as lists, on a real broker and from recorded answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from api_at_socket import answering
from waiting import wait_until

from busctl.cli import main
from busctl.views.federation import FEDERATION
from busctl.views.permissions import PERMISSIONS
from busctl.views.shovels import SHOVELS, state
from busctl.views.users import USERS
from busctl.views.view import Tone
from busctl_lib.management import AccountInfo, FederationLinkInfo, PermissionInfo, ShovelInfo

HOSTILE = "x\x1b[31m\u202ey"
SHOWN = "x\\x1b[31m\\u202ey"
SECRET = "hunter2"
Run = Callable[..., tuple[int, str, str]]

# As 3.10.8 and 4.0.5 answer, but for addresses: a link that runs and one that cannot.
LINKS = b"""[
 {"node":"rabbit@a","exchange":"trading","upstream_exchange":"trading","type":"exchange","vhost":"b","upstream":"east",
  "id":"0f9d4d15","status":"running","local_connection":"<rabbit@a.1.2.0>","uri":"amqp://east.example:5672/a",
  "timestamp":"2026-11-24 1:38:56","local_channel":{"acks_uncommitted":0,"confirm":true,
  "connection_details":{"name":"<rabbit@a.1.2.0>","peer_host":"undefined","peer_port":"undefined"}}},
 {"node":"rabbit@a","queue":"orders","upstream_queue":"orders","consumer_tag":"federation-link-west","type":"queue",
  "vhost":"b","upstream":"west","id":"d8c783d6","status":"error","error":"econnrefused",
  "uri":"amqp://bob:hunter2@west.example:5672/a","timestamp":"2026-11-24 1:39:11"}
]"""


@pytest.fixture
def run(vhost: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run one command line on the test's vhost: (exit code, stdout, stderr)."""
    monkeypatch.setenv("BUSCTL_AMQP_URL", vhost.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", vhost.api_url)

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main.run(arguments)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def put(vhost: Any) -> Callable[[str, object], None]:
    def put(path: str, body: object) -> None:
        requests.put(f"{vhost.api_url}/api/{path}", json=body, timeout=10).raise_for_status()

    return put


@pytest.fixture
def desk(vhost: Any, put: Callable[[str, object], None]) -> Iterator[str]:
    """A user with permissions in the test's vhost."""
    name = f"desk-{vhost.name}"
    put(f"users/{name}", {"password": SECRET, "tags": "monitoring,policymaker"})
    put(f"permissions/{vhost.name}/{name}", {"configure": "^desk", "write": "", "read": ".*"})
    yield name
    requests.delete(f"{vhost.api_url}/api/users/{name}", timeout=10).raise_for_status()


def test_users_show_tags_and_what_they_may_and_nothing_secret(run: Run, vhost: Any, desk: str) -> None:
    pattern = f"{desk[:-1]}?"
    width = len(desk)
    assert run("users", pattern) == (
        0,
        f"{'NAME':<{width}}  TAGS                     LIMITS\n{desk}  monitoring, policymaker\n",
        "",
    )
    assert run("users", pattern, "-o", "tsv")[1] == f"name\ttags\tlimits\n{desk}\tmonitoring, policymaker\t\n"
    user = {"name": desk, "tags": ["monitoring", "policymaker"], "limits": {}}
    assert run("users", pattern, "-o", "json")[1] == json.dumps([user], indent=2) + "\n"
    assert run("users", pattern, "-o", "jsonl")[1] == json.dumps(user, separators=(",", ":")) + "\n"
    permission = {"user": desk, "vhost": vhost.name, "configure": "^desk", "write": "", "read": ".*"}
    assert json.loads(run("users", desk, "-o", "json")[1]) == {**user, "permissions": [permission]}
    detail = run("users", desk)[1]
    assert f"in vhost {vhost.name}: configure ^desk, write (nothing), read .*" in detail
    for form in ("table", "json", "jsonl", "tsv"):
        for shown in (run("users", "-o", form)[1], run("users", desk, "-o", form)[1]):
            assert "hash" not in shown


def test_permissions_are_patterns_of_names(run: Run, vhost: Any, desk: str) -> None:
    row = f"{desk}\t{vhost.name}\t^desk\t\t.*\n"
    assert run("permissions", desk, "-o", "tsv") == (0, f"user\tvhost\tconfigure\twrite\tread\n{row}", "")
    found = {"user": desk, "vhost": vhost.name, "configure": "^desk", "write": "", "read": ".*"}
    assert run("permissions", "desk-*", "-o", "jsonl")[1] == json.dumps(found, separators=(",", ":")) + "\n"
    assert run("permissions", desk, "-o", "json")[1] == json.dumps([found], indent=2) + "\n"
    assert run("permissions", desk, "--columns", "configure,write,read")[1] == (
        "CONFIGURE  WRITE      READ\n^desk      (nothing)  .*\n"
    )
    assert [json.loads(line)["user"] for line in run("permissions", desk, "-A", "-o", "jsonl")[1].splitlines()] == [
        desk
    ]
    assert run("permissions", desk, "-A", "-o", "tsv")[1].startswith("vhost\tuser\tconfigure\t")
    assert vhost.username in run("permissions")[1]
    assert run("permissions", "--where", '.write == ""', "-o", "tsv")[1].endswith(row)


def test_who_may_not_see_users_is_told_which_tag_is_missing(run: Run, vhost: Any, desk: str) -> None:
    api_url = f"http://{desk}:{SECRET}@{urlsplit(vhost.api_url).netloc.rpartition('@')[2]}"
    for noun in ("users", "permissions"):
        code, out, err = run(noun, "--api-url", api_url)
        assert (code, out) == (4, "")
        assert "it needs the tag 'administrator'" in err
        assert SECRET not in err
    assert run("shovels", "--api-url", api_url, "-o", "json") == (0, "[]\n", ""), "monitoring is enough"


def test_shovels_show_where_from_and_where_to_and_their_state(
    run: Run, vhost: Any, put: Callable[[str, object], None]
) -> None:
    ends = {"src-protocol": "amqp091", "dest-protocol": "amqp091", "dest-uri": f"amqp:///{vhost.name}"}
    mover = {"src-uri": f"amqp:///{vhost.name}", "src-queue": "cl\x1bean", "dest-exchange": "", **ends}
    broken = {"src-uri": f"amqp://bob:{SECRET}@127.0.0.1:1/x", "src-queue": "a", "dest-queue": "b", **ends}
    put(f"parameters/shovel/{vhost.name}/mover", {"value": {**mover, "dest-exchange-key": "b"}})
    put(f"parameters/shovel/{vhost.name}/broken", {"value": broken})

    def states() -> dict[str, Any]:
        listed = [json.loads(line) for line in run("shovels", "-o", "jsonl")[1].splitlines()]
        return {each["name"]: each.get("state") for each in listed}

    wait_until(lambda: states().get("mover") == "running", timeout=30)
    wait_until(lambda: "broken" in states(), timeout=30)
    assert states()["broken"] != "running"
    columns = ("--columns", "name,state,source,target,type", "-o", "tsv")
    assert run("shovels", "mov*", *columns)[1] == (
        "name\tstate\tsource\ttarget\ttype\nmover\trunning\tcl\\x1bean\texchange (default) with key 'b'\tdynamic\n"
    )
    found = json.loads(run("shovels", "mover", "-o", "json")[1])
    assert (found["name"], found["vhost"], found["state"]) == ("mover", vhost.name, "running")
    assert found["src_queue"] == "cl\x1bean"
    for form in ("table", "json", "jsonl", "tsv"):
        for shown in (run("shovels", "-o", form)[1], run("shovels", "broken", "-o", form)[1]):
            assert SECRET not in shown


def test_a_plugin_that_is_off_is_one_sentence(run: Run) -> None:
    code, out, err = run("federation", "-o", "json")
    assert (code, out) == (4, "")
    assert "its plug-in rabbitmq_federation_management is off" in err
    assert "rabbitmq-plugins enable rabbitmq_federation_management" in err
    assert run("federation", "--vhost", "nope")[0] == 3


def test_a_plugin_that_is_off_is_the_same_sentence_for_a_vhost_with_a_slash(run: Run) -> None:
    code, _, err = run("federation", "--vhost", "/")
    assert code == 4
    assert "its plug-in rabbitmq_federation_management is off" in err


def test_federation_links_show_what_is_fed_and_what_is_not(run: Run) -> None:
    with answering(LINKS) as api_url:
        asked = ("--api-url", api_url, "--vhost", "b")
        assert run("federation", "--columns", "name,type,upstream,status,from,since,error", *asked) == (
            0,
            "NAME     TYPE      UPSTREAM  STATUS   FROM                        SINCE               ERROR\n"
            "orders   queue     west      ✖ error  amqp://west.example:5672/a  2026-11-24 1:39:11  econnrefused\n"
            "trading  exchange  east      running  amqp://east.example:5672/a  2026-11-24 1:38:56\n",
            "",
        )
        assert run("federation", "west", "--columns", "name,status,error", "-o", "tsv", *asked)[1] == (
            "name\tstatus\terror\norders\terror\teconnrefused\n"
        )
        [link] = json.loads(run("federation", "orders", "-o", "json", *asked)[1])
        assert (link["queue"], link["upstream"], link["status"]) == ("orders", "west", "error")
        lines = run("federation", "--where", '.status != "running"', "-o", "jsonl", *asked)[1].splitlines()
        assert [json.loads(line)["id"] for line in lines] == ["d8c783d6"]
        for form in ("table", "json", "jsonl", "tsv"):
            assert SECRET not in run("federation", "-o", form, *asked)[1]


@pytest.mark.parametrize("noun", ["users", "permissions", "shovels"])
def test_an_absent_one_is_four_and_no_match_is_an_empty_list(run: Run, noun: str) -> None:
    code, out, err = run(noun, "nope\x1bc", "-o", "json")
    assert (code, out) == (4, "")
    assert f"`busctl {noun}` lists what there is" in err
    assert "\x1b" not in err
    assert run(noun, "no-such-*", "-o", "json") == (0, "[]\n", "")
    assert f"no {noun} match no-such-*" in run(noun, "no-such-*")[2]
    assert run(noun, "--sort", "nonsense")[0] == 2


def test_a_shovel_says_what_holds_it_back() -> None:
    def cell(**known: Any) -> tuple[str, Tone]:
        shown = SHOVELS.column("state").cell(ShovelInfo(name="s", **known))
        return shown.text, shown.tone

    assert cell(state="running", blocked_status="running") == ("running", Tone.GOOD)
    assert cell(state="running", blocked_status="blocked") == ("▲ blocked", Tone.WARN)
    assert cell(state="starting") == ("▲ starting", Tone.WARN)
    assert cell(state="terminated") == ("✖ terminated", Tone.BAD)
    assert cell() == ("✖ not running", Tone.BAD)
    assert state(ShovelInfo(name="s", state="odd")) == "odd"


def test_names_from_the_bus_are_made_safe() -> None:
    shovel = ShovelInfo(name=HOSTILE, state=HOSTILE, src_exchange=HOSTILE, src_exchange_key=HOSTILE, reason=HOSTILE)
    rows = [
        USERS.row(AccountInfo(name=HOSTILE, tags=[HOSTILE], limits={HOSTILE: 1})),
        PERMISSIONS.row(PermissionInfo(user=HOSTILE, vhost=HOSTILE, configure=HOSTILE)),
        SHOVELS.row(shovel, SHOVELS.select(wide=True)),
        FEDERATION.row(FederationLinkInfo(queue=HOSTILE, status=HOSTILE, error=HOSTILE)),
    ]
    for row in rows:
        text = "".join(cell.text for cell in row)
        assert "\\x1b" in text
        assert not {"\x1b", "\u202e"} & set(text)
