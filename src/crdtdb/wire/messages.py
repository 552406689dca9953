"""Messages between nodes. See docs/reference/wire.md for implementers.

Each is an array whose first item is its kind. A node sends requests over the connections that it dialed, and responses
over the connection of the request.

    kind  message  items
    0     hello    "crdtdb", major, minor, cluster, name, store id, actor, address, incarnation, clock
    1     welcome  the same
    2     refuse   code, reason
    3     ping     number, members
    4     ack      number, members, digest of the sender's clock
    5     probe    number, name, members           ping the member `name` on the sender's behalf
    6     ask      exchange, clock, whole          request for all that the clock lacks
                   exchange, clock, whole, brief   ... as delta states to what the clock covers
    7     page     exchange, number, last, parcel
    8     more     exchange, pages wanted by now
    9     same     exchange                        nothing is missing
    10    rumor    parcel, names of the nodes that it was sent to
    11    poke     -                               hint that the sender has many new writes
    12    busy     exchange, reason                refused for now
    13    fetch    exchange, sha256, piece, pieces request for pieces of a content
    14    piece    exchange, sha256, piece, last, bytes or null     null: the sender has lost it
    15    compare  exchange, clock, audit          request for all that the clock lacks, then reconciliation
    16    sums     exchange, last, claims, [[actor, bucket, dots, sum], ...]     of the snapshot; without claims: no dot
                                               counts as removed
    17    list     exchange, [[actor, bucket], ...]            the dots of these buckets
    18    dots     exchange, last, [[actor, counter, hash], ...]
    19    want     exchange, [[actor, counter], ...]           request for the whole documents of these dots; ends it
    20    audit    -                               request to audit against the sender, and repair losses
    21    lock-ask     number, roster, lock, ticket, ttl         request for a promise of the lock
    22    lock-hold    number, roster, lock, ticket, token, ttl  begin or renewal of the lease
    23    lock-check   number, roster, lock, token               check of a lease's token
    24    lock-answer  number, granted, highest token, reason
    25    lock-free    lock, ticket, waits                       withdrawal, for good or for now
    26    lock-turn    lock                                      the lock is free, the receiver is next
    27    lock-tell    roster                                    request for the promises
    28    lock-told    roster, highest token, [[lock, ticket, token, ttl], ...]
    29    part         message, part, parts, bytes                  of a message too long for one frame
    30    lineages     wants, [lineage, ...]                     sessions of actors; `wants` requests the receiver's

    member = [name, store id, actor, address, incarnation, status]     status 0 alive, 1 suspect, 2 dead
    roster = digest of the members' store ids, 8 bytes
    ticket = [stamp, name, number]     ttl in milliseconds
    lineage = [actor, highest, known or null, first, tag, first, tag, ...]
    clock  = [[actor, first, last, first, last, ...], ...]             actors as 16 bytes
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

from crdtdb.causality import Actor, DotSet, Lineages

MAGIC = "crdtdb"
MAJOR = 1
MINOR = 4
"""0: before stores were compared. 1: before locks. 2: before successors. 3: before incarnations were bounded, and before
lineages, and before journals had strands."""
COMPARED_SINCE = 1
LOCKS_SINCE = CLOSED_SINCE = 2
BRIEF_SINCE = 3
BOUNDED_SINCE = PARTS_SINCE = LINEAGES_SINCE = SCHEMES_SINCE = STRANDS_SINCE = 4


class Status(IntEnum):
    """What the cluster believes of a member."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2


class Refusal(IntEnum):
    """Why a handshake was refused."""

    PROTOCOL = 1
    CLUSTER = 2
    NAME_TAKEN = 3
    CERTIFICATE = 4
    SELF = 5
    RETIRED = 6
    COPY = 7
    HELD_OFF = 8
    """A frame was refused a moment ago: not before a while has passed."""


class Member(NamedTuple):
    """A node as the roster has it. `incarnation` grows with each start and each refuted suspicion."""

    name: str
    store_id: bytes
    actor: Actor
    address: str
    incarnation: int
    status: Status


class Greeting(NamedTuple):
    """Who speaks: the content of hello and welcome."""

    major: int
    minor: int
    cluster: str
    name: str
    store_id: bytes
    actor: Actor
    address: str
    incarnation: int
    clock: DotSet
    lineages: bytes | None = None
    """The digest of the lineages behind the clock."""


class Hello(NamedTuple):
    greeting: Greeting


class Welcome(NamedTuple):
    greeting: Greeting


class Refuse(NamedTuple):
    code: int
    reason: str


class Ping(NamedTuple):
    number: int
    members: tuple[Member, ...]


class Ack(NamedTuple):
    number: int
    members: tuple[Member, ...]
    clock_digest: bytes


class Probe(NamedTuple):
    number: int
    name: str
    members: tuple[Member, ...]


class SyncRequest(NamedTuple):
    exchange: int
    clock: DotSet
    whole: bool
    brief: bool = False


class PageMessage(NamedTuple):
    exchange: int
    number: int
    last: bool
    parcel: Any
    lineages: bytes | None = None
    """The digest of the lineages behind the parcel's clock."""


class PageCredit(NamedTuple):
    exchange: int
    wanted: int


class UpToDate(NamedTuple):
    exchange: int


class Rumor(NamedTuple):
    parcel: Any
    told: tuple[str, ...]
    lineages: bytes | None = None
    """The digest of the lineages behind the parcel's clock."""


class SyncHint(NamedTuple):
    pass


class Retry(NamedTuple):
    exchange: int
    reason: str


class Fetch(NamedTuple):
    exchange: int
    sha256: bytes
    number: int
    pieces: int


class Piece(NamedTuple):
    exchange: int
    sha256: bytes
    number: int
    last: bool
    content: bytes | None


class Compare(NamedTuple):
    exchange: int
    clock: DotSet
    audit: bool


class BucketSums(NamedTuple):
    exchange: int
    last: bool
    claims: bool
    sums: tuple[tuple[Actor, int, int, int], ...]


class BucketsRequest(NamedTuple):
    exchange: int
    buckets: tuple[tuple[Actor, int], ...]


class BucketDots(NamedTuple):
    exchange: int
    last: bool
    dots: tuple[tuple[Actor, int, int], ...]


class DotsRequest(NamedTuple):
    exchange: int
    dots: tuple[tuple[Actor, int], ...]


class Audit(NamedTuple):
    pass


class Ticket(NamedTuple):
    """One request for a lock. Tickets are in the order in which they are served."""

    stamp: int
    """The hybrid logical clock of the node through which it came."""
    node: str
    number: int


class LockAsk(NamedTuple):
    number: int
    roster: bytes
    lock: str
    ticket: Ticket
    ttl: int


class LockHold(NamedTuple):
    number: int
    roster: bytes
    lock: str
    ticket: Ticket
    token: int
    ttl: int


class LockCheck(NamedTuple):
    number: int
    roster: bytes
    lock: str
    token: int


class LockAnswer(NamedTuple):
    number: int
    granted: bool
    highest: int
    reason: str


class LockFree(NamedTuple):
    lock: str
    ticket: Ticket
    waits: bool


class LockTurn(NamedTuple):
    lock: str


class LockTell(NamedTuple):
    roster: bytes


class LockTold(NamedTuple):
    roster: bytes
    highest: int
    votes: tuple[tuple[str, Ticket, int, int], ...]


class Part(NamedTuple):
    message: int
    part: int
    parts: int
    content: bytes


class LineagesMessage(NamedTuple):
    wants: bool
    clock: DotSet
    """The highest counters alone."""
    lineages: Lineages


Message: TypeAlias = (
    Hello
    | Welcome
    | Refuse
    | Ping
    | Ack
    | Probe
    | SyncRequest
    | PageMessage
    | PageCredit
    | UpToDate
    | Rumor
    | SyncHint
    | Retry
    | Fetch
    | Piece
    | Compare
    | BucketSums
    | BucketsRequest
    | BucketDots
    | DotsRequest
    | Audit
    | LockAsk
    | LockHold
    | LockCheck
    | LockAnswer
    | LockFree
    | LockTurn
    | LockTell
    | LockTold
    | Part
    | LineagesMessage
)
