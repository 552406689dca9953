"""Messages that travel in parts: a document of any size that was accepted reaches every node. History 30."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtdb.cluster.engine.actions import Log, Outbox, Send
from crdtdb.errors import ProtocolError
from crdtdb.limits import FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, PART_BYTES_MIN, PARTS_MAX
from crdtdb.wire.codec import decode_message, encode_message
from crdtdb.wire.messages import PageMessage, Part
from crdtdb.wire.parts import Assembly, cut


@given(st.integers(PART_BYTES_MIN + 1, 4 * PART_BYTES_MIN), st.integers(0, 2**32), st.integers(0, 3))
def test_parts_in_any_order_and_twice_make_the_message(size: int, seed: int, doubled: int) -> None:
    rng = Random(seed)
    payload = rng.randbytes(64) * (size // 64 + 1)
    parts = list(cut(5, payload))
    arriving = parts + rng.choices(parts, k=doubled)
    rng.shuffle(arriving)
    assembly, made = Assembly(), []
    for number, part in enumerate(arriving):
        assert decode_message(encode_message(part)) == part
        whole = assembly.add(part, float(number))
        made += [whole] if whole is not None else []
    assert made == [payload]
    assert not assembly.waiting


def test_a_newer_message_takes_the_place_of_one_that_is_cut_off() -> None:
    old, new = (list(cut(number, bytes([number]) * 3 * PART_BYTES_MIN)) for number in (1, 2))
    assembly = Assembly()
    assert assembly.add(old[0], 0) is None
    assert [assembly.add(part, 0) is not None for part in (new[0], old[1], new[1], old[2], new[2], old[0])] == [
        *[False] * 4,
        True,
        False,
    ]


def test_parts_are_bounded() -> None:
    assert len(list(cut(1, bytes(PARTS_MAX * PART_BYTES_MIN + 5)))) <= PARTS_MAX
    assembly, content = Assembly(), bytes(FRAME_BYTES_MAX - 100)
    with pytest.raises(ProtocolError, match="in parts"):
        for number in range(MESSAGE_BYTES_MAX // len(content) + 2):
            assembly.add(Part(1, number, PARTS_MAX, content), 0)
    assert not assembly.waiting


def test_what_an_older_peer_cannot_take_is_named() -> None:
    outbox = Outbox()
    parcel = [[], [], ["notes"], [], None, [[0, "small", b""], [0, "large", bytes(FRAME_BYTES_MAX)]]]
    outbox.send(1, PageMessage(1, 0, True, parcel))
    (log,) = outbox.take()
    assert isinstance(log, Log)
    assert "notes/large" in log.text
    outbox.in_parts.add(1)
    outbox.send(1, PageMessage(1, 0, True, parcel))
    sent = outbox.take()
    assert len(sent) == 17
    assert all(isinstance(one, Send) and len(one.payload) < 2 * PART_BYTES_MIN for one in sent)
    assert outbox.sent["pagemessage"][0] == 17
