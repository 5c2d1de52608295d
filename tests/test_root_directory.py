"""What prepares a newer RabbitMQ for the tests runs as root: it enters nothing that another user could have made."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from trying import ROOT, Ended

TOOL = ROOT / ".ci/rabbitmq4-root"
ANOTHER = 12345
NOWHERE = "http://127.0.0.1:1/debian"

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a root directory of its own needs Linux"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a root directory of its own needs root"),
    pytest.mark.skipif(not TOOL.exists(), reason="not a clone of the repository"),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """What looks like a prepared root directory of 4.3."""
    place = tmp_path / "root"
    for folder in ("usr/lib/rabbitmq/bin", "usr/lib/rabbitmq/lib/rabbitmq_server-4.3.6", "proc/self", "dev"):
        (place / folder).mkdir(parents=True)
    (place / "dev/null").touch()
    server(place).write_text("#!/bin/sh\n")
    server(place).chmod(0o755)
    return place


def server(place: Path) -> Path:
    return place / "usr/lib/rabbitmq/bin/rabbitmq-server"


def prepared(place: Path, version: str = "4.3", **environment: str) -> Ended:
    """Run it on a place, with an address for all that it would load at which nobody is."""
    known = {**os.environ, "RABBITMQ4_ROOT": str(place), "RABBITMQ4_MIRROR": NOWHERE, **environment}
    done = subprocess.run([TOOL, version], env=known, capture_output=True, text=True, timeout=60, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def mounts_below(folder: Path) -> list[str]:
    return [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if f" {folder}/" in line]


def links_to_it(place: Path) -> Path:
    link = place.with_name("link")
    link.symlink_to(place)
    os.chown(place, ANOTHER, ANOTHER)
    return link


SPOILED: dict[str, Callable[[Path], Path | None]] = {
    "it is another user's": lambda place: os.chown(place, ANOTHER, ANOTHER),
    "a link leads to another user's": links_to_it,
    "all may write in it": lambda place: place.chmod(0o777),
    "all may write in it, but not delete": lambda place: place.chmod(0o1777),
    "the folder above is another user's": lambda place: os.chown(place.parent, ANOTHER, ANOTHER),
    "all may write in the folder above": lambda place: place.parent.chmod(0o777),
    "the program is another user's": lambda place: os.chown(server(place), ANOTHER, ANOTHER),
    "all may write the program": lambda place: server(place).chmod(0o777),
    "a folder of programs is another user's": lambda place: os.chown(server(place).parent, ANOTHER, ANOTHER),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_place_that_another_user_has_made_or_may_change_is_not_entered(place: Path, how: str) -> None:
    ended = prepared(SPOILED[how](place) or place)
    place.parent.chmod(0o700)
    os.chown(place.parent, 0, 0)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "root" in ended.stderr
    assert "preparing" not in ended.stderr
    assert mounts_below(place) == []


def test_a_place_that_is_not_there_is_not_made_below_another_users(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, ANOTHER, ANOTHER)
    ended = prepared(theirs / "made/root")
    assert (ended.returncode, list(theirs.iterdir())) == (1, [])
    assert f"{theirs} is not root's alone" in ended.stderr


def test_a_place_with_another_release_or_with_something_else_is_left_as_it_is(place: Path, tmp_path: Path) -> None:
    ended = prepared(place, "4.0")
    assert (ended.returncode, "holds another one: rabbitmq_server-4.3.6" in ended.stderr) == (1, True)
    full = tmp_path / "full"
    (full / "letters").mkdir(parents=True)
    ended = prepared(full)
    assert (ended.returncode, "there is something else" in ended.stderr) == (1, True)
    assert (full / "letters").exists()


def test_a_release_that_cannot_be_had_is_told() -> None:
    ended = prepared(Path("/nowhere"), "5.1")
    assert (ended.returncode, ended.stderr) == (1, "no RabbitMQ 5.1: 4.0 and 4.3 can be prepared\n")


def test_a_preparation_that_fails_leaves_no_mount_and_nothing_else_behind(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "debootstrap").write_text(
        "#!/bin/sh\nfor word; do case $word in */.rabbitmq-*) place=$word ;; esac; done\n"
        'mkdir -p "$place/proc" && mount -t proc proc "$place/proc" && touch "$place/../mounted"\n'
        'echo "the disk is full"\nexit 1\n'
    )
    (programs / "debootstrap").chmod(0o755)
    kept = tmp_path / "kept"
    ended = prepared(kept / "root", PATH=f"{programs}:{os.environ['PATH']}")
    assert ended.returncode == 1
    assert "no RabbitMQ 4.3: debootstrap failed: the disk is full" in ended.stderr
    if not (kept / "mounted").exists():
        pytest.skip("nothing can be mounted here")
    (kept / "mounted").unlink()
    assert mounts_below(kept) == []
    assert [path.name for path in kept.iterdir()] == [".busctl-preparing"]
