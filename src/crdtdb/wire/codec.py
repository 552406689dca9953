"""How messages are written and read. Whatever is wrong with a payload is an EncodingError or a ProtocolError."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from itertools import pairwise
from typing import Any

from crdtdb.causality import Actor, DotSet, Lineage, Lineages, Session
from crdtdb.errors import EncodingError, ProtocolError
from crdtdb.limits import (
    ADDRESS_BYTES_MAX,
    LINEAGE_SESSIONS_MAX,
    LOCK_NAME_BYTES_MAX,
    LOCKS_MAX,
    MEMBERS_MAX,
    NAME_BYTES_MAX,
    PARTS_MAX,
)
from crdtdb.wire.cbor import decode, encode
from crdtdb.wire.delta_batch import DeltaBatch
from crdtdb.wire.elements import actor_in, check_clock
from crdtdb.wire.messages import (
    MAGIC,
    MAJOR,
    MINOR,
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


def encode_message(message: Message) -> bytes:
    """Return the payload of a message."""
    kind = _KINDS[type(message)]
    return encode([kind, *_WRITERS[kind](message)])


def decode_message(payload: bytes) -> Message:
    """Read a payload. Raises EncodingError, or ProtocolError for a kind that doesn't exist."""
    value = decode(payload)
    if type(value) is not list or not value or type(value[0]) is not int:
        raise EncodingError("a message is an array that begins with its kind")
    reader = _READERS.get(value[0])
    if reader is None:
        raise ProtocolError(f"a message of kind {value[0]}, which protocol {MAJOR}.{MINOR} doesn't have")
    try:
        return reader(*value[1:])
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


def members_out(members: tuple[Member, ...]) -> list[Any]:
    """Write members as they travel, and as a store keeps its roster."""
    return [[*member[:5], int(member.status)] for member in members]


def members_in(encoded: Any) -> tuple[Member, ...]:
    """Read members. Raises EncodingError."""
    if type(encoded) is not list or len(encoded) > MEMBERS_MAX:
        raise EncodingError(f"a roster is an array of at most {MEMBERS_MAX} members")
    try:
        return tuple(
            Member(
                name_in(name),
                _sixteen(store_id),
                actor_in(actor),
                _address(address),
                _number(incarnation),
                Status(status),
            )
            for name, store_id, actor, address, incarnation, status in encoded
        )
    except (TypeError, ValueError) as error:
        raise EncodingError(f"not a member: {error}") from error


def name_in(value: Any) -> str:
    """Read a node's name. Raises EncodingError."""
    return _text(value, NAME_BYTES_MAX, 1)


def _clock_out(clock: DotSet) -> list[Any]:
    return [[actor, *(bound for pair in ranges for bound in pair)] for actor, ranges in clock.items()]


def _clock_in(encoded: Any) -> DotSet:
    if type(encoded) is not list:
        raise EncodingError("a clock is an array")
    check_clock(encoded)
    found = {}
    for actor, *bounds in encoded:
        if len(bounds) % 2 or any(type(bound) is not int or not 0 < bound < 1 << 63 for bound in bounds):
            raise EncodingError("the ranges of an actor are pairs of counters")
        found[actor_in(actor)] = list(zip(bounds[::2], bounds[1::2], strict=True))
    return DotSet.from_ranges(found)


def _greeting_out(message: Hello | Welcome) -> list[Any]:
    greeting = message.greeting
    return [MAGIC, *greeting[:8], _clock_out(greeting.clock), *_digest_out(greeting.lineages)]


def _digest_out(digest: bytes | None) -> list[bytes]:
    """Write the digest of lineages: nothing, to a peer that knows of none."""
    return [digest] if digest is not None else []


def _digest_in(value: Any) -> bytes | None:
    """Read the digest of lineages. One of another length, of a method yet to come, is equal to none that is known."""
    if value is not None and type(value) is not bytes:
        raise EncodingError("a digest is bytes")
    return value


def _lineages_out(message: LineagesMessage) -> list[Any]:
    rows = []
    for actor in message.clock.actors:
        lineage = message.lineages.of(actor)
        flat = [part for session in lineage.sessions for part in session]
        rows.append([actor, message.clock.highest(actor), lineage.known, *flat])
    return [message.wants, rows]


def _lineages_in(wants: Any, rows: Any) -> LineagesMessage:
    if type(rows) is not list:
        raise EncodingError("lineages are an array")
    highest: dict[Actor, int] = {}
    lineages: dict[Actor, Lineage] = {}
    for actor, top, known, *flat in rows:
        if len(flat) % 2 or len(flat) > 2 * LINEAGE_SESSIONS_MAX:
            raise EncodingError(f"a lineage has at most {LINEAGE_SESSIONS_MAX:,} sessions")
        sessions = tuple(
            Session(_number(first), _sixteen(tag)) for first, tag in zip(flat[::2], flat[1::2], strict=True)
        )
        ascending = all(one.first < other.first for one, other in pairwise(sessions))
        if not ascending or (sessions and not sessions[0].first):
            raise EncodingError("the sessions of a lineage are ascending, and begin at 1 or above")
        highest[actor_in(actor)] = _number(top)
        lineages[actor] = Lineage(sessions, _number(known) if known is not None else None)
    return LineagesMessage(_flag(wants), DotSet.vector(highest), Lineages(lineages))


def _greeting_in(*items: Any) -> Greeting:
    """Read a greeting. What a newer minor version adds behind is left out; of another major only the number is read."""
    magic, major, minor = items[:3]
    if magic != MAGIC:
        raise EncodingError("this isn't crdtdb's protocol")
    if _number(major) != MAJOR:
        return Greeting(major, _number(minor), "", "?", bytes(16), bytes(16), "", 0, DotSet())
    cluster, name, store_id, actor, address, incarnation, clock = items[3:10]
    lineages = items[10] if len(items) > 10 else None
    return Greeting(
        major,
        _number(minor),
        _text(cluster, 128),
        name_in(name),
        _sixteen(store_id),
        actor_in(actor),
        _address(address),
        _number(incarnation),
        _clock_in(clock),
        lineages if type(lineages) is bytes else None,
    )


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise EncodingError("a number is a non-negative integer")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise EncodingError("a flag is true or false")
    return value


def _text(value: Any, bytes_max: int, bytes_min: int = 0) -> str:
    if type(value) is not str or not bytes_min <= len(value.encode()) <= bytes_max:
        raise EncodingError(f"a text of {bytes_min} to {bytes_max} bytes was expected")
    return value


def _address(value: Any) -> str:
    return _text(value, ADDRESS_BYTES_MAX)


def _sixteen(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != 16:
        raise EncodingError("sixteen bytes were expected")
    return value


def _eight(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != 8:
        raise EncodingError("eight bytes were expected")
    return value


def _sha256(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != 32:
        raise EncodingError("a SHA-256 has thirty-two bytes")
    return value


def _content(value: Any) -> bytes | None:
    if value is not None and type(value) is not bytes:
        raise EncodingError("a piece is bytes, or null")
    return value


def _rows(value: Any, numbers: int) -> Any:
    """Read rows of an actor and so many numbers."""
    if type(value) is not list:
        raise EncodingError("rows are an array")
    return tuple((actor_in(actor), *map(_unsigned, rest)) for actor, *rest in value if _is_row(rest, numbers))


def _is_row(rest: list[Any], numbers: int) -> bool:
    if len(rest) != numbers:
        raise EncodingError(f"a row is an actor and {numbers} numbers")
    return True


def _unsigned(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise EncodingError("a sum is a number of 64 bits")
    return value


def _names(value: Any) -> tuple[str, ...]:
    if type(value) is not list or len(value) > MEMBERS_MAX:
        raise EncodingError("names are an array")
    return tuple(name_in(one) for one in value)


def _lock(value: Any) -> str:
    return _text(value, LOCK_NAME_BYTES_MAX, 1)


def _ticket(value: Any) -> Ticket:
    if type(value) is not list or len(value) != 3:
        raise EncodingError("a ticket is a stamp, a name and a number")
    return Ticket(_number(value[0]), name_in(value[1]), _number(value[2]))


def _votes(value: Any) -> tuple[tuple[str, Ticket, int, int], ...]:
    if type(value) is not list or len(value) > LOCKS_MAX:
        raise EncodingError("promises are an array")
    return tuple((_lock(lock), _ticket(ticket), _number(token), _number(ttl)) for lock, ticket, token, ttl in value)


def _part(message: int, part: Any, parts: Any, content: Any) -> Part:
    if type(parts) is not int or not 2 <= parts <= PARTS_MAX or type(part) is not int or not 0 <= part < parts:
        raise EncodingError(f"a message has 2 to {PARTS_MAX} parts, numbered from 0")
    if type(content) is not bytes or not content:
        raise EncodingError("a part is bytes")
    return Part(message, part, parts, content)


def _with_ticket(at: int) -> Callable[[Any], list[Any]]:
    """Return a writer of messages whose item at that place is a ticket."""
    return lambda message: [list(item) if place == at else item for place, item in enumerate(message)]


_TABLE: tuple[tuple[type[Any], Callable[[Any], list[Any]], Callable[..., Any]], ...] = (
    (Hello, _greeting_out, lambda *items: Hello(_greeting_in(*items))),
    (Welcome, _greeting_out, lambda *items: Welcome(_greeting_in(*items))),
    (Refuse, list, lambda code, reason: Refuse(_number(code), _text(reason, 1000))),
    (Ping, lambda m: [m.number, members_out(m.members)], lambda n, ms: Ping(_number(n), members_in(ms))),
    (
        Ack,
        lambda m: [m.number, members_out(m.members), m.clock_digest],
        lambda n, ms, digest: Ack(_number(n), members_in(ms), _eight(digest)),
    ),
    (
        Probe,
        lambda m: [m.number, m.name, members_out(m.members)],
        lambda n, name, ms: Probe(_number(n), name_in(name), members_in(ms)),
    ),
    (
        SyncRequest,
        lambda m: [m.exchange, _clock_out(m.clock), m.whole, *([True] if m.brief else ())],
        lambda x, clock, whole, brief=False: SyncRequest(_number(x), _clock_in(clock), _flag(whole), _flag(brief)),
    ),
    (
        PageMessage,
        lambda m: [*m[:4], *_digest_out(m.lineages)],
        lambda x, n, last, parcel, digest=None: PageMessage(
            _number(x), _number(n), _flag(last), parcel, _digest_in(digest)
        ),
    ),
    (PageCredit, list, lambda x, wanted: PageCredit(_number(x), _number(wanted))),
    (UpToDate, list, lambda x: UpToDate(_number(x))),
    (
        Rumor,
        lambda m: [m.parcel, list(m.told), *_digest_out(m.lineages)],
        lambda parcel, told, digest=None: Rumor(parcel, _names(told), _digest_in(digest)),
    ),
    (SyncHint, list, SyncHint),
    (Retry, list, lambda x, reason: Retry(_number(x), _text(reason, 1000))),
    (Fetch, list, lambda x, sha256, n, pieces: Fetch(_number(x), _sha256(sha256), _number(n), _number(pieces))),
    (
        Piece,
        list,
        lambda x, sha256, n, last, content: Piece(
            _number(x), _sha256(sha256), _number(n), _flag(last), _content(content)
        ),
    ),
    (
        Compare,
        lambda m: [m.exchange, _clock_out(m.clock), m.audit],
        lambda x, clock, audit: Compare(_number(x), _clock_in(clock), _flag(audit)),
    ),
    (
        BucketSums,
        lambda m: [m.exchange, m.last, m.claims, [list(row) for row in m.sums]],
        lambda x, last, claims, rows: BucketSums(_number(x), _flag(last), _flag(claims), _rows(rows, 3)),
    ),
    (
        BucketsRequest,
        lambda m: [m.exchange, [list(row) for row in m.buckets]],
        lambda x, rows: BucketsRequest(_number(x), _rows(rows, 1)),
    ),
    (
        BucketDots,
        lambda m: [m.exchange, m.last, [list(row) for row in m.dots]],
        lambda x, last, rows: BucketDots(_number(x), _flag(last), _rows(rows, 2)),
    ),
    (
        DotsRequest,
        lambda m: [m.exchange, [list(row) for row in m.dots]],
        lambda x, rows: DotsRequest(_number(x), _rows(rows, 1)),
    ),
    (Audit, list, Audit),
    (
        LockAsk,
        _with_ticket(3),
        lambda n, roster, lock, ticket, ttl: LockAsk(
            _number(n), _eight(roster), _lock(lock), _ticket(ticket), _number(ttl)
        ),
    ),
    (
        LockHold,
        _with_ticket(3),
        lambda n, roster, lock, ticket, token, ttl: LockHold(
            _number(n), _eight(roster), _lock(lock), _ticket(ticket), _number(token), _number(ttl)
        ),
    ),
    (
        LockCheck,
        list,
        lambda n, roster, lock, token: LockCheck(_number(n), _eight(roster), _lock(lock), _number(token)),
    ),
    (
        LockAnswer,
        list,
        lambda n, ok, highest, reason: LockAnswer(_number(n), _flag(ok), _number(highest), _text(reason, 1000)),
    ),
    (LockFree, _with_ticket(1), lambda lock, ticket, waits: LockFree(_lock(lock), _ticket(ticket), _flag(waits))),
    (LockTurn, list, lambda lock: LockTurn(_lock(lock))),
    (LockTell, list, lambda roster: LockTell(_eight(roster))),
    (
        LockTold,
        lambda m: [m.roster, m.highest, [[lock, list(ticket), *rest] for lock, ticket, *rest in m.votes]],
        lambda roster, highest, votes: LockTold(_eight(roster), _number(highest), _votes(votes)),
    ),
    (Part, list, lambda message, part, parts, content: _part(_number(message), part, parts, content)),
    (LineagesMessage, _lineages_out, _lineages_in),
)
_KINDS = {row[0]: kind for kind, row in enumerate(_TABLE)}
_WRITERS = [row[1] for row in _TABLE]
_READERS: dict[int, Callable[..., Message]] = {kind: row[2] for kind, row in enumerate(_TABLE)}
