"""Locks: leases that a majority of the roster grants. This joins the voter and the leases of a node to its store and its links.

`system.locks` shows who holds what. It is replicated after the fact; what counts is what a majority has promised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from itertools import count
from random import Random
from typing import Any, NamedTuple

from crdtdb.cluster.engine.links import Link, Links
from crdtdb.cluster.engine.roster import Roster
from crdtdb.cluster.engine.system_collections import SystemDocument, check_shown
from crdtdb.errors import (
    EncodingError,
    InvalidDocumentError,
    InvalidInputError,
    LockError,
    NotFoundError,
    UnavailableError,
)
from crdtdb.limits import LOCK_NAME_BYTES_MAX, LOCK_SECONDS_MAX, LOCK_SECONDS_MIN, LOCKS_MAX, TOKEN_MAX
from crdtdb.locks.leases import Lease, Leases, Stage, Vow, check_ttl
from crdtdb.locks.voter import Answer, Kept, Vote, Voter
from crdtdb.store import Store
from crdtdb.wire.cbor import decode_own, encode
from crdtdb.wire.messages import (
    BOUNDED_SINCE,
    LOCKS_SINCE,
    LockAnswer,
    LockAsk,
    LockCheck,
    LockFree,
    LockHold,
    LockTell,
    LockTold,
    LockTurn,
    Message,
    Ticket,
)

LOCKS = "system.locks"
_CHECK_SECONDS = 2.0
_LOOK_SECONDS = 1.0
_TELL_SECONDS = 0.2


def check_lock(doc_id: str, body: dict[str, Any]) -> None:
    """Raise InvalidDocumentError unless a document of `system.locks` says who holds what."""
    check_shown(doc_id, body)
    if type(body["token"]) is not int or type(body["for"]) is not str or type(body["ttl"]) not in (int, float):
        raise InvalidDocumentError("a lock has `for`, a `token`, which is an integer, and a `ttl`, which is a number")


class _Check(NamedTuple):
    """A question whether a token is that of a lease."""

    until: float
    yes: set[str]
    no: set[str]
    done: Callable[[bool | None], None]


class Locks:
    """The locks of one node: what it has promised, and what is held and wanted through it."""

    def __init__(self, store: Store, me: str, roster: Roster, links: Links, rng: Random, now: float) -> None:
        self._store, self._me, self._roster, self._links = store, me, roster, links
        self._numbers = count(1)
        self._stamps = count(1)
        self._leases = Leases(me, self._send, self._free, rng, self._numbers)
        self._shown = SystemDocument(store, LOCKS, me, links, check_lock)
        self._header: Any = None
        self._voter = Voter(self._kept(), self._keep, now)
        self._ids: dict[str, bytes] = {}
        self._digest = b""
        self._checks: dict[int, _Check] = {}
        self._orders: deque[Callable[[float], None]] = deque()
        self.wake: Callable[[], None] = lambda: None
        """Called, from any thread, when there is something for the next tick."""
        self._next_look = self._next_telling = self._now = now
        self.handlers: dict[type[Any], Callable[[Link, Any, float], None]] = {
            LockAsk: self._ask,
            LockHold: self._hold,
            LockCheck: self._check,
            LockAnswer: self._answer,
            LockFree: self._freed,
            LockTurn: lambda link, message, now: self._leases.called(message.lock),  # noqa: ARG005
            LockTell: self._tell,
            LockTold: self._told,
        }

    # What others want of this node, from any thread

    def want(self, name: str, ttl: float, wait: float, who: str, renewing: bool, changed: Callable[[], None]) -> Lease:
        """Ask for a lock, for as long as `wait` seconds; what comes of it stands in the lease that is returned.

        `ttl` is how long it lives without being renewed, in seconds from 1 to 300; `changed` is called by the engine whenever
        the stage changes. Raises InvalidInputError for a name or a time that can't be, UnavailableError if there are too many.
        """
        check_lock_name(name)
        if not check_ttl(ttl):
            raise InvalidInputError(f"ttl {ttl}: a lease lives from {LOCK_SECONDS_MIN:.0f} to {LOCK_SECONDS_MAX:.0f} s")
        if not 0 <= wait < float("inf"):
            raise InvalidInputError(f"wait {wait}: a number of seconds from 0")
        if len(self._leases) + len(self._orders) >= LOCKS_MAX:
            raise UnavailableError(f"{LOCKS_MAX:,} locks are held or wanted through this node already")
        ticket = Ticket(self._store.stamp(), self._me, next(self._stamps))
        lease = Lease(name, ticket, ttl, who, renewing, 0.0, changed)

        def begin(now: float) -> None:
            lease.give_up_at = now + wait
            self._leases.want(lease)

        self._order(begin)
        return lease

    def renew(self, lease: Lease) -> None:
        """Ask for another time to live."""
        self._order(lambda now: self._leases.renew(lease))  # noqa: ARG005

    def release(self, lease: Lease) -> None:
        """Give a lock back, or stop asking for it."""
        self._order(lambda now: self._leases.release(lease))  # noqa: ARG005

    def held(self, name: str, token: int, now: float) -> Lease:
        """Return the lease of a lock that is held through this node under a token. Raises NotFoundError, LockError."""
        lease = self._leases.held(name, now)
        if lease is None:
            raise NotFoundError(f"the lock {name!r} isn't held through this node: ask the one that granted it")
        if lease.token != token:
            raise LockError(f"the lock {name!r} is held under another token than {token}")
        return lease

    def is_live(self, name: str, token: int, now: float, done: Callable[[bool | None], None]) -> bool:
        """Return whether a token is that of a lease through this node; if not, ask a majority.

        Then `done` is called with what that says, None if there is no majority.
        """
        lease = self._leases.held(name, now)
        if lease is not None and lease.token == token:
            return True
        self._order(lambda now: self._begin_check(name, token, done, now))
        return False

    def _order(self, act: Callable[[float], None]) -> None:
        self._orders.append(act)
        self.wake()

    @property
    def has_orders(self) -> bool:
        """Whether something waits for the next tick."""
        return bool(self._orders)

    def overview(self) -> list[dict[str, Any]]:
        """Return who holds what, as the cluster tells it, and who waits for it here."""
        waiting = self._voter.waiting
        return [
            {"name": name, **body, "waiting": [one.node for one in waiting(name, self._now)]}
            for name, body in self._shown.bodies().items()
        ]

    def counts(self) -> dict[str, int]:
        """Return how many leases are at each stage, and how many promises were made."""
        found = dict.fromkeys(("held", "waiting", "promised"), 0)
        for lease in self._leases.all():
            found["held" if lease.stage is Stage.HELD else "waiting"] += 1
        return {**found, "promised": len(self._voter.votes)}

    # Time

    def tick(self, votes: bool, now: float) -> None:
        """Do what was ordered, what is due, and show what has changed. `votes` is whether this node may vote yet."""
        self._now = now
        self._ids = {name: one.store_id for name, one in self._roster.members().items()}
        roster, me = frozenset(self._ids.values()), self._store.identity.store_id
        self._digest = blake2b(b"".join(sorted(roster)), digest_size=8).digest() if votes and me in roster else b""
        if self._digest:
            self._voter.members_are(roster, me, now)
        while self._orders:
            self._orders.popleft()(now)
        for node, name in self._voter.tick(now):
            self._call(node, name)
        self._leases.tick(self._ids if self._digest else (), now)
        for number, check in list(self._checks.items()):
            if now >= check.until:
                del self._checks[number]
                check.done(None)
        if self._digest and now >= self._next_telling and self._voter.held_off(now):
            self._next_telling = now + _TELL_SECONDS
            self._ask_what_is_promised()
        if self._digest and now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            self._show(now)

    def reset_identity(self, now: float) -> None:
        """Be the voter of another store: nothing that the one before has promised is to be relied upon."""
        self._header = None
        self._store.meta.put_promises({None: None, **dict.fromkeys(self._voter.votes)})
        self._voter = Voter(Kept(), self._keep, now)

    def stop(self, now: float) -> None:
        """Release all leases: no other node has to wait for one that stops cleanly."""
        self._now = now
        for lease in self._leases.all():
            self._leases.release(lease, "the node is stopping")
        if self._digest:
            self._show(now)

    # As one who wants

    def _send(self, member: str, vow: Vow) -> None:
        ttl = round(vow.ttl * 1000)
        if member == self._me:
            if not self._digest:
                return
            if vow.token:
                answer = self._voter.hold(vow.name, vow.ticket, vow.token, vow.ttl, self._now)
            else:
                answer = self._voter.ask(vow.name, vow.ticket, vow.ttl, self._now)
            self._leases.answered(vow.number, self._me, answer, self._ids, self._now)
        elif vow.token:
            self._tell_member(member, LockHold(vow.number, self._digest, vow.name, vow.ticket, vow.token, ttl))
        else:
            self._tell_member(member, LockAsk(vow.number, self._digest, vow.name, vow.ticket, ttl))

    def _free(self, name: str, ticket: Ticket, waits: bool) -> None:
        for member in sorted(self._ids):
            if member == self._me:
                called = self._voter.free(name, ticket, waits, self._now)
                if called is not None:
                    self._call(called, name)
            else:
                self._tell_member(member, LockFree(name, ticket, waits))

    def _answer(self, link: Link, message: LockAnswer, now: float) -> None:
        if not self._may_be(link, message.highest):
            return
        answer = Answer(message.granted, message.highest, message.reason)
        check = self._checks.get(message.number)
        if check is not None:
            self._count(message.number, check, link.peer or "?", answer)
        else:
            self._leases.answered(message.number, link.peer or "?", answer, self._ids, now)

    def _begin_check(self, name: str, token: int, done: Callable[[bool | None], None], now: float) -> None:
        if not self._digest:
            done(None)
            return
        number = next(self._numbers)
        check = self._checks[number] = _Check(now + _CHECK_SECONDS, set(), set(), done)
        for member in sorted(self._ids):
            if member != self._me:
                self._tell_member(member, LockCheck(number, self._digest, name, token))
        self._count(number, check, self._me, self._voter.check(name, token, now))

    def _count(self, number: int, check: _Check, member: str, answer: Answer) -> None:
        (check.yes if answer.granted else check.no).add(member)
        needed = len(self._ids) // 2 + 1
        if len(check.yes) >= needed or len(check.no) >= needed:
            self._checks.pop(number, None)
            check.done(len(check.yes) >= needed)

    # As one who votes

    def _ask(self, link: Link, message: LockAsk, now: float) -> None:
        def vote() -> Answer:
            return self._voter.ask(message.lock, message.ticket, _seconds(message.ttl), now)

        self._reply(link, message.number, message.roster, vote)

    def _hold(self, link: Link, message: LockHold, now: float) -> None:
        if not self._may_be(link, message.token):
            return

        def vote() -> Answer:
            ticket = message.ticket
            return self._voter.hold(message.lock, ticket, message.token, _seconds(message.ttl), now)

        self._reply(link, message.number, message.roster, vote)

    def _check(self, link: Link, message: LockCheck, now: float) -> None:
        self._reply(link, message.number, message.roster, lambda: self._voter.check(message.lock, message.token, now))

    def _reply(self, link: Link, number: int, roster: bytes, vote: Callable[[], Answer]) -> None:
        if not self._digest:
            answer = Answer(False, 0, f"{self._me} isn't ready yet")
        elif roster != self._digest:
            answer = Answer(False, 0, f"{self._me} doesn't agree yet on who the members are")
        else:
            answer = vote()
        self._links.reply(link, LockAnswer(number, *answer))

    def _freed(self, link: Link, message: LockFree, now: float) -> None:  # noqa: ARG002
        called = self._voter.free(message.lock, message.ticket, message.waits, now)
        if called is not None:
            self._call(called, message.lock)

    def _call(self, node: str, name: str) -> None:
        if node == self._me:
            self._leases.called(name)
        else:
            self._tell_member(node, LockTurn(name))

    def _ask_what_is_promised(self) -> None:
        for name, store_id in self._ids.items():
            if store_id in self._voter.unheard:
                self._tell_member(name, LockTell(self._digest))

    def _tell(self, link: Link, message: LockTell, now: float) -> None:  # noqa: ARG002
        if message.roster == self._digest:
            votes = tuple(
                (name, vote.ticket, vote.token, round(vote.ttl * 1000)) for name, vote in self._voter.votes.items()
            )
            self._links.reply(link, LockTold(self._digest, self._voter.highest, votes))

    def _told(self, link: Link, message: LockTold, now: float) -> None:
        store_id = self._ids.get(link.peer or "?")
        tokens = (message.highest, *(token for _, _, token, _ in message.votes))
        if message.roster == self._digest and store_id is not None and self._may_be(link, max(tokens)):
            votes = {name: Vote(ticket, token, _seconds(ttl), 0.0) for name, ticket, token, ttl in message.votes}
            self._voter.told(store_id, votes, message.highest, now)

    def _may_be(self, link: Link, token: int) -> bool:
        """Whether a token can be one. Raises EncodingError if it is beyond the bound, and who tells it knows of that."""
        if token <= TOKEN_MAX:
            return self._voter.is_plausible(token)
        if link.minor >= BOUNDED_SINCE:
            raise EncodingError(f"the token {token:,} of a lock, the highest that there is is {TOKEN_MAX:,}")
        return False

    def _tell_member(self, member: str, message: Message) -> None:
        way = self._links.ways.get(member)
        if way is not None and way.minor >= LOCKS_SINCE:
            self._links.send_to(member, message)

    # At rest

    def _kept(self) -> Kept:
        rows = self._store.meta.promises()
        encoded = rows.pop(None, None)
        if encoded is None:
            return Kept()
        store_id, highest, rosters = decode_own(encoded)
        if store_id != self._store.identity.store_id:
            self._store.meta.put_promises({None: None, **dict.fromkeys(rows)})
            return Kept()
        votes = {}
        for name, row in rows.items():
            ticket, token, ttl = decode_own(row)
            votes[name or ""] = Vote(Ticket(*ticket), token, _seconds(ttl), 0.0)
        if highest > TOKEN_MAX:
            highest = 0  # a member has lied to an older version: no lease could begin any more
        return Kept(highest, tuple(map(frozenset, rosters)), votes)

    def _keep(self, kept: Kept, name: str | None) -> None:
        rows: dict[str | None, bytes | None] = {}
        header = (self._store.identity.store_id, kept.highest, [sorted(one) for one in kept.rosters])
        if header != self._header:
            self._header = header
            rows[None] = encode(list(header))
        if name is not None:
            vote = kept.votes.get(name)
            rows[name] = encode([list(vote.ticket), vote.token, round(vote.ttl * 1000)]) if vote is not None else None
        self._store.meta.put_promises(rows)

    # For people

    def _show(self, now: float) -> None:
        """Publish in `system.locks` what is held through this node, and remove what isn't any more."""
        mine = {
            one.name: {"for": one.who, "token": one.token, "ttl": one.ttl}
            for one in self._leases.all()
            if one.live(now)
        }
        if mine or LOCKS in self._store.root.names:
            self._shown.show(mine, now, lambda name, body: not self._voter.check(name, body["token"], now).granted)


def check_lock_name(name: object) -> str:
    """Return a lock's name that is allowed. Raises InvalidInputError."""
    if not isinstance(name, str) or not name or name.startswith("_"):
        raise InvalidInputError(
            f"{str(name)[:80]!r} can't be the name of a lock: it is text that doesn't begin with '_'"
        )
    if len(name.encode(errors="surrogatepass")) > LOCK_NAME_BYTES_MAX or not name.isprintable():
        raise InvalidInputError(
            f"{name[:80]!r} can't be the name of a lock: it is printable, and has at most {LOCK_NAME_BYTES_MAX} bytes"
        )
    return name


def _seconds(milliseconds: int) -> float:
    return min(milliseconds / 1000, LOCK_SECONDS_MAX)
