"""Byzantine member: changes one thing in each valid frame of a node.

A frame is taken apart down to the JSON of the documents that it carries, so that what is changed may be any item of the
message, of a document's state, of a body or of an attachment's entry; then it is put together again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from random import Random
from typing import Any

from crdtdb.database.system_collection import SystemCollection
from crdtdb.documents import NOTHING
from crdtdb.errors import CrdtdbError, EncodingError
from crdtdb.store import Store
from crdtdb.wire.cbor import decode, encode
from crdtdb.wire.codec import decode_message, encode_message
from crdtdb.wire.delta_batch import DeltaBatch
from crdtdb.wire.messages import Ack, BucketDots, BucketSums, Member, PageMessage, Ping, Probe, Rumor, Status
from crdtdb.wire.states import First

NONSENSE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 255, 2**31, 2**32, 2**53 - 1, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64),
    *(
        -(2**63),
        0.5,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        "\0",
        "é",
        "../x",
        "_local/x",
        "_design/x",
        "_x",
        "system.nodes",
    ),
    *(
        "x" * 300,
        "x" * 5_000,
        b"",
        b"\0",
        b"x" * 15,
        b"x" * 16,
        b"x" * 17,
        b"x" * 32,
        b"\xff" * 8,
        b"{}",
        b"[]",
        b"{",
        b"nul",
    ),
    *([], [[]], [[], []], [None], [1, 2], {}, {"": 1}, {"a": {"b": []}}),
)
"""What may stand in the place of anything: bounds and the values beside them, wrong types and lengths, reserved names."""


class _Packed(list[Any]):
    """What was inside some bytes: one value, and how they are written."""

    def __init__(self, value: Any, as_json: bool) -> None:
        super().__init__([value])
        self.as_json = as_json


def mutate(payload: bytes, rng: Random) -> bytes:
    """Return a payload of a valid message with one thing changed: another value, one more, one less, or two in other places."""
    tree = _unpack(decode(payload))
    places = list(_places(tree))
    inside = [
        place for packed in (one for one in places if isinstance(one[0], _Packed)) for place in _places(packed[0])
    ]
    container, key = rng.choice(inside if inside and rng.random() < 0.7 else places)
    what = rng.choice(["replace", "replace", "replace", "replace", "remove", "double", "swap", "insert"])
    nonsense = _copy(rng.choice(NONSENSE))
    if what == "replace" or isinstance(container, (dict, _Packed)):
        container[key] = nonsense
    elif what == "remove":
        del container[key]
    elif what == "double":
        container.insert(key, _copy(container[key]))
    elif what == "swap":
        other = rng.randrange(len(container))
        container[key], container[other] = container[other], container[key]
    else:
        container.insert(key, nonsense)
    return encode(_pack(tree))


def bend(payload: bytes, rng: Random) -> bytes:
    """Return other bytes: some changed, cut off, or added, so that it may be no CBOR at all."""
    data = bytearray(payload)
    what = rng.choice(["flip", "cut", "add"])
    if what == "flip":
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif what == "cut":
        del data[rng.randrange(len(data)) :]
    else:
        data += rng.randbytes(rng.randint(1, 20))
    return bytes(data)


class RogueMember:
    """Sends mutated frames in place of those that a byzantine member's engine sends.

    It lies about members, and its frames are malformed anywhere. What it doesn't do is to lie about documents in well-formed
    frames: a member may write what it likes, and no other can tell.
    """

    def __init__(self, name: str, rng: Random) -> None:
        self.name, self._dice = name, rng
        self._made_up = count()

    def speak(self, payload: bytes) -> bytes:
        """Return what is sent instead of a payload: mostly the same."""
        rng, message = self._dice, decode_message(payload)
        if rng.random() < 0.7:
            return payload
        if isinstance(message, (Ping, Ack, Probe)) and rng.random() < 0.7:
            return encode_message(message._replace(members=tuple(map(self._lie, message.members)) + self._makings()))
        changed = mutate(payload, rng) if rng.random() < 0.8 else bend(payload, rng)
        return payload if isinstance(message, _OF_DOCUMENTS) and _is_well_formed(changed) else changed

    def write_nonsense(self, store: Store) -> None:
        """Write what no sound node writes into the database's own collections."""
        rng = self._dice
        name = rng.choice(["system.nodes", "system.locks", "system.notifys", "system.collections"])
        body: dict[str, Any] = {
            key: rng.choice([None, 7, "x", [], "00" * 16]) for key in ("store", "actor", "address", "token")
        }
        del body[rng.choice(list(body))]
        body["node"] = rng.choice([None, 7, []])
        SystemCollection(store, name).say(f"nonsense{next(self._made_up)}", body)

    def _lie(self, member: Member) -> Member:
        rng = self._dice
        if member.name == self.name:
            return member
        incarnation = rng.choice([member.incarnation + rng.randint(0, 2_000), 2**53 - 1, 2**63 - 1, 0])
        lie = member._replace(incarnation=incarnation, status=rng.choice(list(Status)))
        what = rng.choice(["status", "status", "address", "actor", "store"])
        if what == "address":
            return lie._replace(address="nowhere")
        if what == "actor":
            return lie._replace(actor=rng.randbytes(16))
        return lie._replace(store_id=rng.randbytes(16)) if what == "store" else lie

    def _makings(self) -> tuple[Member, ...]:
        rng = self._dice
        return tuple(
            Member(f"made-up{next(self._made_up)}", rng.randbytes(16), rng.randbytes(16), "nowhere", 1, Status.ALIVE)
            for _ in range(rng.choice([0, 0, 1, 30]))
        )


_OF_DOCUMENTS = (PageMessage, Rumor, BucketSums, BucketDots)


def _is_well_formed(payload: bytes) -> bool:
    """Whether a receiver could take it for something that a sound node sends."""
    try:
        message = decode_message(payload)
        if not isinstance(message, (PageMessage, Rumor)):
            return True
        parcel = DeltaBatch(message.parcel)
        for shipped in parcel.documents:
            if not isinstance(parcel.first(shipped), First):
                parcel.state(shipped, lambda rev: lambda: (), NOTHING)  # noqa: ARG005
    except (CrdtdbError, ValueError, TypeError, LookupError):
        return False
    return True


def _unpack(value: Any) -> Any:
    """Return a value whose bytes are taken apart where they hold CBOR arrays or JSON objects."""
    if isinstance(value, list):
        return [_unpack(one) for one in value]
    if isinstance(value, dict):
        return {key: _unpack(one) for key, one in value.items()}
    if isinstance(value, bytes) and len(value) > 1:
        if value[:1] == b"{":
            with suppress(ValueError):
                return _Packed(json.loads(value), as_json=True)
        elif value[0] >> 5 == 4 and len(value) != 16:
            with suppress(EncodingError):
                return _Packed(_unpack(decode(value)), as_json=False)
    return value


def _pack(value: Any) -> Any:
    if isinstance(value, _Packed):
        inside = value[0]
        if value.as_json:
            return json.dumps(_jsonable(inside), separators=(",", ":"), ensure_ascii=False).encode()
        return encode(_pack(inside))
    if isinstance(value, list):
        return [_pack(one) for one in value]
    if isinstance(value, dict):
        return {key: _pack(one) for key, one in value.items()}
    return value


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _jsonable(one) for key, one in value.items()}
    return [_jsonable(one) for one in value] if isinstance(value, list) else value


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place in a tree: a container and a key or an index in it."""
    keys: Any = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def _copy(value: Any) -> Any:
    if isinstance(value, _Packed):
        return _Packed(_copy(value[0]), value.as_json)
    if isinstance(value, list):
        return [_copy(one) for one in value]
    return {key: _copy(one) for key, one in value.items()} if isinstance(value, dict) else value
