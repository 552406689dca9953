"""Encodings of message items: numbers, names, clocks, members and lineages."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from crdtdb.causality import Actor, DotSet, Lineage, Lineages, Session
from crdtdb.errors import EncodingError
from crdtdb.limits import (
    ADDRESS_BYTES_MAX,
    LINEAGE_SESSIONS_MAX,
    LOCK_NAME_BYTES_MAX,
    LOCKS_MAX,
    MEMBERS_MAX,
    NAME_BYTES_MAX,
    PARTS_MAX,
)
from crdtdb.wire.elements import actor_in, check_clock
from crdtdb.wire.messages import (
    MAGIC,
    MAJOR,
    Greeting,
    Hello,
    LineagesMessage,
    Member,
    Part,
    Status,
    Ticket,
    Welcome,
)


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
                number_in(incarnation),
                Status(status),
            )
            for name, store_id, actor, address, incarnation, status in encoded
        )
    except (TypeError, ValueError) as error:
        raise EncodingError(f"not a member: {error}") from error


def name_in(value: Any) -> str:
    """Read a node's name. Raises EncodingError."""
    return text_in(value, NAME_BYTES_MAX, 1)


def clock_out(clock: DotSet) -> list[Any]:
    return [[actor, *(bound for pair in ranges for bound in pair)] for actor, ranges in clock.items()]


def clock_in(encoded: Any) -> DotSet:
    if type(encoded) is not list:
        raise EncodingError("a clock is an array")
    check_clock(encoded)
    found = {}
    for actor, *bounds in encoded:
        if len(bounds) % 2 or any(type(bound) is not int or not 0 < bound < 1 << 63 for bound in bounds):
            raise EncodingError("the ranges of an actor are pairs of counters")
        found[actor_in(actor)] = list(zip(bounds[::2], bounds[1::2], strict=True))
    return DotSet.from_ranges(found)


def greeting_out(message: Hello | Welcome) -> list[Any]:
    greeting = message.greeting
    return [MAGIC, *greeting[:8], clock_out(greeting.clock), *digest_out(greeting.lineages)]


def digest_out(digest: bytes | None) -> list[bytes]:
    """Write the digest of lineages: nothing, to a peer that knows of none."""
    return [digest] if digest is not None else []


def digest_in(value: Any) -> bytes | None:
    """Read the digest of lineages. One of another length, of a method yet to come, is equal to none that is known."""
    if value is not None and type(value) is not bytes:
        raise EncodingError("a digest is bytes")
    return value


def lineages_out(message: LineagesMessage) -> list[Any]:
    rows = []
    for actor in message.clock.actors:
        lineage = message.lineages.of(actor)
        flat = [part for session in lineage.sessions for part in session]
        rows.append([actor, message.clock.highest(actor), lineage.known, *flat])
    return [message.wants, rows]


def lineages_in(wants: Any, rows: Any) -> LineagesMessage:
    if type(rows) is not list:
        raise EncodingError("lineages are an array")
    highest: dict[Actor, int] = {}
    lineages: dict[Actor, Lineage] = {}
    for actor, top, known, *flat in rows:
        if len(flat) % 2 or len(flat) > 2 * LINEAGE_SESSIONS_MAX:
            raise EncodingError(f"a lineage has at most {LINEAGE_SESSIONS_MAX:,} sessions")
        sessions = tuple(
            Session(number_in(first), _sixteen(tag)) for first, tag in zip(flat[::2], flat[1::2], strict=True)
        )
        ascending = all(one.first < other.first for one, other in pairwise(sessions))
        if not ascending or (sessions and not sessions[0].first):
            raise EncodingError("the sessions of a lineage are ascending, and begin at 1 or above")
        highest[actor_in(actor)] = number_in(top)
        lineages[actor] = Lineage(sessions, number_in(known) if known is not None else None)
    return LineagesMessage(flag_in(wants), DotSet.vector(highest), Lineages(lineages))


def greeting_in(*items: Any) -> Greeting:
    """Read a greeting. What a newer minor version adds behind is left out; of another major only the number is read."""
    magic, major, minor = items[:3]
    if magic != MAGIC:
        raise EncodingError("this isn't crdtdb's protocol")
    if number_in(major) != MAJOR:
        return Greeting(major, number_in(minor), "", "?", bytes(16), bytes(16), "", 0, DotSet())
    cluster, name, store_id, actor, address, incarnation, clock = items[3:10]
    lineages = items[10] if len(items) > 10 else None
    return Greeting(
        major,
        number_in(minor),
        text_in(cluster, 128),
        name_in(name),
        _sixteen(store_id),
        actor_in(actor),
        _address(address),
        number_in(incarnation),
        clock_in(clock),
        lineages if type(lineages) is bytes else None,
    )


def number_in(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise EncodingError("a number is a non-negative integer")
    return value


def flag_in(value: Any) -> bool:
    if type(value) is not bool:
        raise EncodingError("a flag is true or false")
    return value


def text_in(value: Any, bytes_max: int, bytes_min: int = 0) -> str:
    if type(value) is not str or not bytes_min <= len(value.encode()) <= bytes_max:
        raise EncodingError(f"a text of {bytes_min} to {bytes_max} bytes was expected")
    return value


def _address(value: Any) -> str:
    return text_in(value, ADDRESS_BYTES_MAX)


def _sixteen(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != 16:
        raise EncodingError("sixteen bytes were expected")
    return value


def eight_in(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != 8:
        raise EncodingError("eight bytes were expected")
    return value


def sha256_in(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != 32:
        raise EncodingError("a SHA-256 has thirty-two bytes")
    return value


def content_in(value: Any) -> bytes | None:
    if value is not None and type(value) is not bytes:
        raise EncodingError("a piece is bytes, or null")
    return value


def rows_in(value: Any, numbers: int) -> Any:
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


def names_in(value: Any) -> tuple[str, ...]:
    if type(value) is not list or len(value) > MEMBERS_MAX:
        raise EncodingError("names are an array")
    return tuple(name_in(one) for one in value)


def lock_in(value: Any) -> str:
    return text_in(value, LOCK_NAME_BYTES_MAX, 1)


def ticket_in(value: Any) -> Ticket:
    if type(value) is not list or len(value) != 3:
        raise EncodingError("a ticket is a stamp, a name and a number")
    return Ticket(number_in(value[0]), name_in(value[1]), number_in(value[2]))


def votes_in(value: Any) -> tuple[tuple[str, Ticket, int, int], ...]:
    if type(value) is not list or len(value) > LOCKS_MAX:
        raise EncodingError("promises are an array")
    return tuple(
        (lock_in(lock), ticket_in(ticket), number_in(token), number_in(ttl)) for lock, ticket, token, ttl in value
    )


def part_in(message: int, part: Any, parts: Any, content: Any) -> Part:
    if type(parts) is not int or not 2 <= parts <= PARTS_MAX or type(part) is not int or not 0 <= part < parts:
        raise EncodingError(f"a message has 2 to {PARTS_MAX} parts, numbered from 0")
    if type(content) is not bytes or not content:
        raise EncodingError("a part is bytes")
    return Part(message, part, parts, content)


def with_ticket(at: int) -> Callable[[Any], list[Any]]:
    """Return a writer of messages whose item at that place is a ticket."""
    return lambda message: [list(item) if place == at else item for place, item in enumerate(message)]
