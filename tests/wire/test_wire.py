"""The wire: what goes in comes out, what is hostile is refused, and the test vectors hold."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from crdtdb.causality import EMPTY, Dot, DotSet, Lineage, Lineages, Session
from crdtdb.crdts import Address, Creations, Delta, Journal, Update
from crdtdb.documents import Ancestor, State
from crdtdb.documents.catalogue import NO_COLLECTIONS
from crdtdb.documents.delta_states import Successor
from crdtdb.errors import EncodingError, ProtocolError
from crdtdb.limits import FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX
from crdtdb.testing.replicas import Replica
from crdtdb.testing.strategies import History, dot_sets, histories
from crdtdb.wire.cbor import decode, encode
from crdtdb.wire.codec import MESSAGES, clock_digest, decode_message, encode_message, is_known
from crdtdb.wire.delta_batch import DeltaBatch, ParcelWriter
from crdtdb.wire.frames import Frames, frame
from crdtdb.wire.messages import (
    LINEAGES_SINCE,
    Ack,
    Audit,
    BucketDots,
    BucketsRequest,
    BucketSums,
    Compare,
    DotsRequest,
    Fetch,
    Greeting,
    Hello,
    LineagesMessage,
    LockAnswer,
    LockAsk,
    LockCheck,
    LockFree,
    LockHold,
    LockTell,
    LockTold,
    LockTurn,
    Member,
    Message,
    PageCredit,
    PageMessage,
    Part,
    Piece,
    Ping,
    Probe,
    Refuse,
    Retry,
    Rumor,
    Status,
    SyncHint,
    SyncRequest,
    Ticket,
    UpToDate,
    Welcome,
)
from tests.nonsense import plain, spoil

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())


def whole(leaf: Any) -> Any:
    return leaf.path.all(), False


def parcel_of(replica: Replica) -> list[Any]:
    writer = ParcelWriter()
    for doc_id, state in replica.states.items():
        writer.add("notes", doc_id, state, EMPTY, whole)
    return writer.finish(DotSet.vector({replica.actor: replica.counter}))


def read(parcel: DeltaBatch) -> list[State]:
    return [parcel.state(one, lambda rev: lambda: ())[0] for one in parcel.documents]


# Round trips


@given(histories())
def test_a_state_comes_out_as_it_went_in(history: History) -> None:
    for state in history.states():
        writer = ParcelWriter()
        writer.add("notes", "a", state, EMPTY, whole)
        parcel = DeltaBatch(decode(encode(writer.finish(state.context))))
        (found,) = read(parcel)
        assert replace(found, context=state.context) == state
        assert state.context >= found.context
        assert found.context >= DotSet.of(state.dots())


members = st.builds(
    Member,
    st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=16, max_size=16),
    st.just("127.0.0.1:7001"),
    st.integers(0, 2**40),
    st.sampled_from(Status),
)
names = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
numbers = st.integers(0, 2**63 - 1)
rosters = st.lists(members, max_size=4).map(tuple)
greetings = st.builds(
    Greeting,
    st.just(1),
    numbers,
    st.text(max_size=8),
    names,
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=16, max_size=16),
    st.just("[::1]:7001"),
    numbers,
    dot_sets(),
)
messages = st.one_of(
    st.builds(Hello, greetings),
    st.builds(Welcome, greetings),
    st.builds(Refuse, numbers, st.text(max_size=20)),
    st.builds(Ping, numbers, rosters),
    st.builds(Ack, numbers, rosters, st.binary(min_size=8, max_size=8)),
    st.builds(Probe, numbers, names, rosters),
    st.builds(SyncRequest, numbers, dot_sets(), st.booleans(), st.booleans()),
    st.builds(PageMessage, numbers, numbers, st.booleans(), st.just([])),
    st.builds(PageCredit, numbers, numbers),
    st.builds(UpToDate, numbers),
    st.builds(Rumor, st.just([]), st.lists(names, max_size=3).map(tuple)),
    st.just(SyncHint()),
    st.builds(Fetch, numbers, st.binary(min_size=32, max_size=32), numbers, numbers),
    st.builds(
        Piece, numbers, st.binary(min_size=32, max_size=32), numbers, st.booleans(), st.none() | st.binary(max_size=9)
    ),
    st.builds(Retry, numbers, st.text(max_size=20)),
)


@given(messages)
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.data())
def test_frames_are_found_wherever_the_stream_is_cut(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(frame, payloads))
    frames, found = Frames(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        frames.feed(stream[:size])
        stream = stream[size:]
        while (payload := frames.next()) is not None:
            found.append(payload)
    assert found == payloads


@given(dot_sets(), dot_sets())
def test_equal_clocks_and_no_others_have_equal_digests(one: DotSet, other: DotSet) -> None:
    assert (clock_digest(one) == clock_digest(other)) == (one == other)


# Hostile input


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_named_error(data: bytes) -> None:
    with contextlib.suppress(EncodingError, ProtocolError):
        decode_message(data)


@given(st.integers(-1, 14), st.lists(plain, max_size=11))
def test_any_values_are_a_message_or_a_named_error(kind: int, items: list[object]) -> None:
    try:
        message = decode_message(encode([kind, *items]))
        if isinstance(message, (PageMessage, Rumor)):
            DeltaBatch(message.parcel)
    except (EncodingError, ProtocolError):
        pass


@given(st.data())
def test_a_parcel_with_any_part_replaced_is_read_or_refused(data: st.DataObject) -> None:
    ada = Replica("ada")
    for n in range(3):
        ada.put("a", {"n": n})
    ada.increment("a", "likes", 1)
    ada.delete("a")
    parcel = parcel_of(ada)
    parcel[5][0][2] = decode(parcel[5][0][2])
    spoil(data, parcel)
    try:
        documents = parcel[5]
        if isinstance(documents, list):
            for document in documents:
                if isinstance(document, list) and len(document) == 3 and not isinstance(document[2], bytes):
                    document[2] = encode(document[2])
        read(DeltaBatch(decode(encode(parcel))))
    except EncodingError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x9f\x00\xff",  # an array without a length
        b"\xbf\xff",
        b"\xa2\x61a\x00\x61a\x00",  # a key twice
        b"\xc0\x61a",  # a tag
        b"\xd8\x2a\x00",
        b"\x00\x00",  # trailing bytes
        b"\x81" * 100 + b"\x00",  # nested too deep
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",  # more than there is
        b"\x1c",
    ],
)
def test_cbor_that_is_not_plain_is_refused(data: bytes) -> None:
    with pytest.raises(EncodingError):
        decode(data)


def test_a_length_beyond_the_bound_is_refused_before_anything_is_held() -> None:
    frames = Frames()
    frames.feed(b"\xff\xff\xff\xff")
    with pytest.raises(ProtocolError, match="4,294,967,295 bytes"):
        frames.next()
    stranger = Frames()
    stranger.feed((HANDSHAKE_FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
    with pytest.raises(ProtocolError):
        stranger.next()
    friend = Frames()
    friend.greeted()
    friend.feed((HANDSHAKE_FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
    assert friend.next() is None
    with pytest.raises(ProtocolError):
        frame(b"x" * (FRAME_BYTES_MAX + 1))


def test_a_newer_minor_version_may_add_items_and_another_major_is_only_named() -> None:
    greeting = Greeting(1, 7, "c", "n1", b"s" * 16, b"a" * 16, "h:1", 3, EMPTY)
    value = decode(encode_message(Hello(greeting)))
    assert decode_message(encode([*value, "something new"])) == Hello(greeting)
    other = decode_message(encode([0, "crdtdb", 2, 0, {"entirely": "different"}]))
    assert isinstance(other, Hello)
    assert other.greeting.major == 2


# Vectors: docs/reference/wire.md tells another implementation to pass them too


def brief_parcel(actor: bytes) -> list[Any]:
    """A keystroke, told as a successor; the text is the document's only one."""
    dot, creations = Dot(actor, 9), frozenset([Dot(actor, 1)])
    journal = Journal({actor: 9}, creations, {dot: Update(8, b"a Yrs update")})
    told = Successor(
        dot,
        Dot(actor, 7),
        [Ancestor("0123456789abcdef0123456789abcdef", Dot(actor, 8))],
        None,
        True,
        117_695_995_788_787_712,
        DotSet.from_ranges({actor: [(1, 9)]}),
        creations,
        None,
        {Address(("tags",), "set", '="x"'): {dot: Delta(b"", creations)}},
        {Address(("body",), "text", "0011223344556677"): journal},
        2**63 + 5,
    )
    writer = ParcelWriter()
    writer.add_successor("notes", "a", told, told.journals)
    return writer.finish(DotSet.from_ranges({actor: [(1, 9)]}))


def vector_messages() -> dict[str, Message]:
    ada, actor = Replica("ada"), bytes(range(16))
    ada.put("a", {"title": "x"})
    ada.put("a", {"title": "y"})
    member = Member("n1", actor, actor[::-1], "127.0.0.1:7001", 4, Status.SUSPECT)
    clock = DotSet.from_ranges({actor: [(1, 300), (302, 302)]})
    greeting = Greeting(1, 0, "c0ffee", "n1", actor, actor[::-1], "127.0.0.1:7001", 4, clock)
    parcel = parcel_of(ada)
    return {
        "hello": Hello(greeting),
        "welcome": Welcome(greeting),
        "refuse": Refuse(3, "the name 'n1' is taken"),
        "ping": Ping(1, (member,)),
        "ack": Ack(1, (), clock_digest(clock)),
        "probe": Probe(2, "n2", ()),
        "ask": SyncRequest(7, clock, False),
        "brief ask": SyncRequest(7, clock, False, brief=True),
        "page": PageMessage(7, 0, True, parcel),
        "brief page": PageMessage(7, 0, True, brief_parcel(actor)),
        "more": PageCredit(7, 5),
        "same": UpToDate(7),
        "rumor": Rumor(parcel, ("n1", "n2")),
        "poke": SyncHint(),
        "busy": Retry(7, "joining"),
        "fetch": Fetch(7, bytes(range(32)), 0, 8),
        "piece": Piece(7, bytes(range(32)), 0, True, b"hello"),
        "compare": Compare(7, clock, True),
        "sums": BucketSums(7, True, True, ((actor, 0, 3, 2**64 - 1),)),
        "list": BucketsRequest(7, ((actor, 0),)),
        "dots": BucketDots(7, True, ((actor, 3, 2**63),)),
        "want": DotsRequest(7, ((actor, 3),)),
        "audit": Audit(),
        "lock-ask": LockAsk(9, bytes(8), "invoice/7", Ticket(1 << 40, "n1", 3), 30_000),
        "lock-hold": LockHold(10, bytes(8), "invoice/7", Ticket(1 << 40, "n1", 3), 12, 30_000),
        "lock-check": LockCheck(11, bytes(8), "invoice/7", 12),
        "lock-answer": LockAnswer(9, False, 11, "it is held through n2"),
        "lock-free": LockFree("invoice/7", Ticket(1 << 40, "n1", 3), False),
        "lock-turn": LockTurn("invoice/7"),
        "lock-tell": LockTell(bytes(8)),
        "lock-told": LockTold(bytes(8), 12, (("invoice/7", Ticket(1 << 40, "n1", 3), 12, 30_000),)),
        "part": Part(7, 1, 3, b"bytes"),
        "lineages": LineagesMessage(
            True,
            DotSet.vector({actor: 302}),
            Lineages({actor: Lineage((Session(1, actor), Session(290, actor[::-1])), 300)}),
        ),
        "hello with lineages": Hello(greeting._replace(minor=4, lineages=bytes(8))),
        "page with lineages": PageMessage(7, 0, True, parcel, bytes(8)),
        "rumor with lineages": Rumor(parcel, ("n1", "n2"), bytes(8)),
    }


@pytest.mark.parametrize("name", list(vector_messages()))
def test_vectors(name: str) -> None:
    message = vector_messages()[name]
    payload = bytes.fromhex(VECTORS[name])
    assert encode_message(message).hex() == VECTORS[name]
    assert decode_message(payload) == message


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "1.3"])
def test_what_older_versions_sent_can_be_read(version: str) -> None:
    """Nodes of one major version work together: these are the vectors as the minor versions before had them."""
    older = json.loads((Path(__file__).parent / f"vectors-{version}.json").read_text())
    assert older
    minor = int(version.partition(".")[2])
    for name, payload in older.items():
        assert decode_message(bytes.fromhex(payload)) == vector_messages()[name], name
        assert is_known(type(vector_messages()[name]), minor), (
            f"{name} was sent by {version}, and its row says otherwise"
        )


def test_each_message_has_one_row() -> None:
    assert {row.type for row in MESSAGES} == set(Message.__args__)
    assert len({row.kind for row in MESSAGES}) == len({row.type for row in MESSAGES}) == len(MESSAGES)
    assert not is_known(LineagesMessage, LINEAGES_SINCE - 1), "an older node doesn't handle it"


def test_every_kind_of_message_has_a_vector_and_a_section() -> None:
    document = (Path(__file__).parents[2] / "docs" / "reference" / "wire.md").read_text()
    assert {type(message) for message in vector_messages().values()} == set(Message.__args__)
    for name in vector_messages():
        assert name in VECTORS
        kind = name.partition(" with ")[0]
        assert f"`{kind}`" in document, f"docs/reference/wire.md doesn't describe {name}"


def test_the_catalogue_travels() -> None:
    dot, other = Dot(b"A" * 16, 1), Dot(b"B" * 16, 9)
    catalogue = NO_COLLECTIONS.created("notes", dot).created("tasks", other).dropped("tasks", Dot(b"A" * 16, 2))
    writer = ParcelWriter()
    writer.add_catalogue(catalogue, EMPTY, {"notes": 7, "tasks": 0})
    parcel = DeltaBatch(decode(encode(writer.finish(catalogue.context))))
    assert parcel.catalogue is not None
    names_in, marks, residue, sweeps = parcel.catalogue
    assert sweeps == {"notes": 7}
    expected: dict[str, Creations] = {"notes": frozenset({dot})}
    assert (names_in, marks, residue) == (expected, frozenset({Dot(b"A" * 16, 2)}), EMPTY)
    assert parcel.clock == catalogue.context
