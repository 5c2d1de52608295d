"""Acks of many deliveries in few frames: exactly those that may go, whatever is held among them."""

from __future__ import annotations

import random
import struct

from hypothesis import given
from hypothesis import strategies as st

from busctl_lib.amqp.acks import Acks

FRAME = struct.Struct(">BHIIQBB")


def acks_of(total: int) -> Acks:
    acks = Acks(1)
    for tag in range(1, total + 1):
        acks.delivered(tag)
    return acks


def settle(unacked: set[int], frames: bytes) -> int:
    """What a broker does with them; answers how many frames there were."""
    for _, _, _, _, tag, multiple, _ in FRAME.iter_unpack(frames):
        assert tag in unacked, "the broker would close the channel: unknown delivery tag"
        unacked -= {each for each in unacked if each <= tag} if multiple else {tag}
    return len(frames) // FRAME.size


@given(
    total=st.integers(1, 60),
    held=st.sets(st.integers(1, 60), max_size=4),
    order=st.randoms(use_true_random=False),
    size=st.integers(1, 20),
)
def test_a_held_delivery_is_never_acked_and_every_other_is(
    total: int, held: set[int], order: random.Random, size: int
) -> None:
    unacked = set(range(1, total + 1))
    tags = sorted(unacked - held)
    order.shuffle(tags)  # confirms come in any order
    acks = acks_of(total)
    for start in range(0, len(tags), size):
        batch = tags[start : start + size]
        settle(unacked, acks.encode(batch))
        assert not unacked & set(batch)
        assert unacked >= held & set(range(1, total + 1))
    assert unacked == held & set(range(1, total + 1))


def test_a_run_of_deliveries_is_one_frame_until_one_is_held() -> None:
    unacked, acks = set(range(1, 11)), acks_of(10)
    assert settle(unacked, acks.encode([1, 2, 3])) == 1
    assert settle(unacked, acks.encode([5, 6, 7])) == 3
    assert settle(unacked, acks.encode([4, 8])) == 1
    assert unacked == {9, 10}


def test_what_was_settled_otherwise_is_part_of_the_run_and_never_named() -> None:
    unacked, acks = set(range(1, 7)), acks_of(6)
    assert acks.settle(1)
    assert acks.settle(4)
    assert not acks.settle(4)
    unacked -= {1, 4}
    assert settle(unacked, acks.encode([2, 3])) == 1
    assert settle(unacked, acks.encode([5])) == 1
    assert unacked == {6}


def test_only_what_is_open_is_remembered_behind_a_held_delivery() -> None:
    acks = acks_of(30_000)
    acks.encode(range(2, 30_001))
    assert acks.open == 1
