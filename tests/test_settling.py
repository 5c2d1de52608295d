"""Acks of many deliveries in few frames: exactly those that may go, whatever is held among them."""

from __future__ import annotations

import random
import struct

from hypothesis import given
from hypothesis import strategies as st

from busctl_lib.amqp.batches import Acks

FRAME = struct.Struct(">BHIIQBB")


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
    acks = Acks(1)
    for start in range(0, len(tags), size):
        batch = tags[start : start + size]
        settle(unacked, acks.encode(batch))
        assert not unacked & set(batch)
        assert unacked >= held & set(range(1, total + 1))
    assert unacked == held & set(range(1, total + 1))


def test_a_run_of_deliveries_is_one_frame_until_one_is_held() -> None:
    unacked, acks = set(range(1, 11)), Acks(1)
    assert settle(unacked, acks.encode([1, 2, 3])) == 1
    assert settle(unacked, acks.encode([5, 6, 7])) == 3
    assert settle(unacked, acks.encode([4, 8])) == 1
    assert unacked == {9, 10}


def test_what_is_remembered_behind_a_held_delivery_is_bounded() -> None:
    acks = Acks(1)
    for tag in range(2, 30_000):
        acks.encode([tag])
    assert len(acks._beyond) <= Acks._MOST
