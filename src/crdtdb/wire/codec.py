"""Message codec. Malformed payloads raise EncodingError or ProtocolError."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple

from crdtdb.causality import DotSet, Lineages
from crdtdb.errors import EncodingError, ProtocolError
from crdtdb.wire.cbor import decode, encode
from crdtdb.wire.delta_batch import DeltaBatch
from crdtdb.wire.items import (
    clock_in,
    clock_out,
    content_in,
    digest_in,
    digest_out,
    eight_in,
    flag_in,
    greeting_in,
    greeting_out,
    lineages_in,
    lineages_out,
    lock_in,
    members_in,
    members_out,
    name_in,
    names_in,
    number_in,
    part_in,
    rows_in,
    sha256_in,
    text_in,
    ticket_in,
    votes_in,
    with_ticket,
)
from crdtdb.wire.messages import (
    COMPARED_SINCE,
    LINEAGES_SINCE,
    LOCKS_SINCE,
    MAJOR,
    MINOR,
    PARTS_SINCE,
    Ack,
    Audit,
    BucketDots,
    BucketsRequest,
    BucketSums,
    Compare,
    DotsRequest,
    Fetch,
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
    SyncHint,
    SyncRequest,
    UpToDate,
    Welcome,
)


def encode_message(message: Message) -> bytes:
    """Return the payload of a message."""
    row = _BY_TYPE[type(message)]
    return encode([row.kind, *row.write(message)])


def decode_message(payload: bytes) -> Message:
    """Read a payload. Raises EncodingError, or ProtocolError for a kind that doesn't exist."""
    value = decode(payload)
    if type(value) is not list or not value or type(value[0]) is not int:
        raise EncodingError("a message is an array that begins with its kind")
    row = _BY_KIND.get(value[0])
    if row is None:
        raise ProtocolError(f"a message of kind {value[0]}, which protocol {MAJOR}.{MINOR} doesn't have")
    try:
        return row.read(*value[1:])  # type: ignore[no-any-return]
    except EncodingError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise EncodingError(f"a message of kind {value[0]} that can't be read: {error}") from error


def history_digest(clock: DotSet, lineages: Lineages) -> bytes:
    """Return eight bytes that tell equal clocks of equal histories from others."""
    return blake2b(clock_digest(clock) + lineages.digest(clock), digest_size=8).digest()


def clock_digest(clock: DotSet) -> bytes:
    """Return eight bytes that tell equal clocks from others."""
    ordered = [[actor, *(bound for pair in ranges for bound in pair)] for actor, ranges in sorted(clock.items())]
    return blake2b(encode(ordered), digest_size=8).digest()


def parcel_in(encoded: Any) -> DeltaBatch:
    """Read the parcel of a page or a rumor. Raises EncodingError."""
    return DeltaBatch(encoded)


class Row(NamedTuple):
    """A kind of message: its number on the wire, its class, the protocol minor since which it exists, and its codec."""

    kind: int
    type: type[Any]
    since: int
    write: Callable[[Any], list[Any]]
    """Returns the items of a message."""
    read: Callable[..., Any]
    """Makes a message of its items. Raises EncodingError, or what Python raises for items of a wrong number or type."""


MESSAGES: tuple[Row, ...] = (
    Row(0, Hello, 0, greeting_out, lambda *items: Hello(greeting_in(*items))),
    Row(1, Welcome, 0, greeting_out, lambda *items: Welcome(greeting_in(*items))),
    Row(2, Refuse, 0, list, lambda code, reason: Refuse(number_in(code), text_in(reason, 1000))),
    Row(3, Ping, 0, lambda m: [m.number, members_out(m.members)], lambda n, ms: Ping(number_in(n), members_in(ms))),
    Row(
        4,
        Ack,
        0,
        lambda m: [m.number, members_out(m.members), m.clock_digest],
        lambda n, ms, digest: Ack(number_in(n), members_in(ms), eight_in(digest)),
    ),
    Row(
        5,
        Probe,
        0,
        lambda m: [m.number, m.name, members_out(m.members)],
        lambda n, name, ms: Probe(number_in(n), name_in(name), members_in(ms)),
    ),
    Row(
        6,
        SyncRequest,
        0,
        lambda m: [m.exchange, clock_out(m.clock), m.whole, *([True] if m.brief else ())],
        lambda x, clock, whole, brief=False: SyncRequest(number_in(x), clock_in(clock), flag_in(whole), flag_in(brief)),
    ),
    Row(
        7,
        PageMessage,
        0,
        lambda m: [*m[:4], *digest_out(m.lineages)],
        lambda x, n, last, parcel, digest=None: PageMessage(
            number_in(x), number_in(n), flag_in(last), parcel, digest_in(digest)
        ),
    ),
    Row(8, PageCredit, 0, list, lambda x, wanted: PageCredit(number_in(x), number_in(wanted))),
    Row(9, UpToDate, 0, list, lambda x: UpToDate(number_in(x))),
    Row(
        10,
        Rumor,
        0,
        lambda m: [m.parcel, list(m.told), *digest_out(m.lineages)],
        lambda parcel, told, digest=None: Rumor(parcel, names_in(told), digest_in(digest)),
    ),
    Row(11, SyncHint, 0, list, SyncHint),
    Row(12, Retry, 0, list, lambda x, reason: Retry(number_in(x), text_in(reason, 1000))),
    Row(
        13,
        Fetch,
        0,
        list,
        lambda x, sha256, n, pieces: Fetch(number_in(x), sha256_in(sha256), number_in(n), number_in(pieces)),
    ),
    Row(
        14,
        Piece,
        0,
        list,
        lambda x, sha256, n, last, content: Piece(
            number_in(x), sha256_in(sha256), number_in(n), flag_in(last), content_in(content)
        ),
    ),
    Row(
        15,
        Compare,
        COMPARED_SINCE,
        lambda m: [m.exchange, clock_out(m.clock), m.audit],
        lambda x, clock, audit: Compare(number_in(x), clock_in(clock), flag_in(audit)),
    ),
    Row(
        16,
        BucketSums,
        COMPARED_SINCE,
        lambda m: [m.exchange, m.last, m.claims, [list(row) for row in m.sums]],
        lambda x, last, claims, rows: BucketSums(number_in(x), flag_in(last), flag_in(claims), rows_in(rows, 3)),
    ),
    Row(
        17,
        BucketsRequest,
        COMPARED_SINCE,
        lambda m: [m.exchange, [list(row) for row in m.buckets]],
        lambda x, rows: BucketsRequest(number_in(x), rows_in(rows, 1)),
    ),
    Row(
        18,
        BucketDots,
        COMPARED_SINCE,
        lambda m: [m.exchange, m.last, [list(row) for row in m.dots]],
        lambda x, last, rows: BucketDots(number_in(x), flag_in(last), rows_in(rows, 2)),
    ),
    Row(
        19,
        DotsRequest,
        COMPARED_SINCE,
        lambda m: [m.exchange, [list(row) for row in m.dots]],
        lambda x, rows: DotsRequest(number_in(x), rows_in(rows, 1)),
    ),
    Row(20, Audit, COMPARED_SINCE, list, Audit),
    Row(
        21,
        LockAsk,
        LOCKS_SINCE,
        with_ticket(3),
        lambda n, roster, lock, ticket, ttl: LockAsk(
            number_in(n), eight_in(roster), lock_in(lock), ticket_in(ticket), number_in(ttl)
        ),
    ),
    Row(
        22,
        LockHold,
        LOCKS_SINCE,
        with_ticket(3),
        lambda n, roster, lock, ticket, token, ttl: LockHold(
            number_in(n), eight_in(roster), lock_in(lock), ticket_in(ticket), number_in(token), number_in(ttl)
        ),
    ),
    Row(
        23,
        LockCheck,
        LOCKS_SINCE,
        list,
        lambda n, roster, lock, token: LockCheck(number_in(n), eight_in(roster), lock_in(lock), number_in(token)),
    ),
    Row(
        24,
        LockAnswer,
        LOCKS_SINCE,
        list,
        lambda n, ok, highest, reason: LockAnswer(number_in(n), flag_in(ok), number_in(highest), text_in(reason, 1000)),
    ),
    Row(
        25,
        LockFree,
        LOCKS_SINCE,
        with_ticket(1),
        lambda lock, ticket, waits: LockFree(lock_in(lock), ticket_in(ticket), flag_in(waits)),
    ),
    Row(26, LockTurn, LOCKS_SINCE, list, lambda lock: LockTurn(lock_in(lock))),
    Row(27, LockTell, LOCKS_SINCE, list, lambda roster: LockTell(eight_in(roster))),
    Row(
        28,
        LockTold,
        LOCKS_SINCE,
        lambda m: [m.roster, m.highest, [[lock, list(ticket), *rest] for lock, ticket, *rest in m.votes]],
        lambda roster, highest, votes: LockTold(eight_in(roster), number_in(highest), votes_in(votes)),
    ),
    Row(
        29,
        Part,
        PARTS_SINCE,
        list,
        lambda message, part, parts, content: part_in(number_in(message), part, parts, content),
    ),
    Row(30, LineagesMessage, LINEAGES_SINCE, lineages_out, lineages_in),
)
_BY_TYPE = {row.type: row for row in MESSAGES}
_BY_KIND = {row.kind: row for row in MESSAGES}


def is_known(message: type[Any], minor: int) -> bool:
    """Whether a protocol minor has a kind of message."""
    return _BY_TYPE[message].since <= minor
