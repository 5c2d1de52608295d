"""What lists print, byte for byte, from answers recorded of a real node: scripts and eyes rely on it.

A wanted change: `pytest tests/test_golden.py --snapshot-update`, and look at the difference.
"""

from __future__ import annotations

from typing import Any

import pytest
from syrupy.extensions.single_file import SingleFileSnapshotExtension
from test_recorded import VIEWS, recorded

from busctl.cli import output
from busctl.cli.output import Format
from busctl.views.queues import QUEUES
from busctl_lib.management import QueueInfo


@pytest.fixture
def golden(snapshot: Any) -> Any:
    return snapshot.use_extension(SingleFileSnapshotExtension)


@pytest.mark.parametrize("form", list(Format))
def test_every_list_prints_the_same_bytes(form: Format, golden: Any, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    pages: list[bytes] = []
    for name, view in VIEWS.items():
        capfdbinary.readouterr()
        infos = view.sorted(recorded("3.10.8", name))
        output.write_list(view, infos, form, view.select())
        pages.append(f"--- {name}\n".encode() + capfdbinary.readouterr().out)
    assert b"".join(pages) == golden


def test_all_columns_of_queues_print_the_same_bytes(golden: Any, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    infos = QUEUES.sorted(recorded("4.0.5", "queues_with_rates"))
    for form in (Format.TABLE, Format.TSV):
        output.write_list(QUEUES, infos, form, QUEUES.select(wide=True))
    assert capfdbinary.readouterr().out == golden


def test_json_is_what_the_api_says_and_nothing_else(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    info = QueueInfo(name='é "q"\x1b', vhost="/", messages=0, arguments={"x-max-length": 2**53 + 1, "ttl": 1.0})
    output.write_list(QUEUES, [info], Format.JSON, QUEUES.select())
    output.write_list(QUEUES, [info], Format.JSONL, QUEUES.select())
    output.write_list(QUEUES, [info], Format.TSV, QUEUES.select(["name", "messages", "consumers"]))
    output.write_list(QUEUES, [], Format.JSON, QUEUES.select())
    output.write_list(QUEUES, [], Format.JSONL, QUEUES.select())
    out = capfdbinary.readouterr().out
    line = (
        '{"name":"é \\"q\\"\\u001b","vhost":"/","arguments":{"x-max-length":9007199254740993,"ttl":1.0},"messages":0}\n'
    )
    assert out.endswith((line + 'name\tmessages\tconsumers\né "q"\\x1b\t0\t\n[]\n').encode())
