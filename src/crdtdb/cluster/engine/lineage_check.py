"""Whether a peer means the same writes by the same dots, before anything of it is merged or counted. Rule 3.

What carries a clock to be merged (pages, rumors) also carries a digest of the lineages behind it, and so do greetings and
acknowledgements. Where the digest isn't that of what this node knows, nothing is taken, and the two tell each other their
lineages. Who holds the losing branch of a fork renames it; whose own actor has forked enters as a new store besides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from crdtdb.causality import DotSet, Fork, Lineages
from crdtdb.cluster.engine.actions import Outbox
from crdtdb.cluster.engine.links import Link, Links
from crdtdb.errors import EncodingError
from crdtdb.store import Store
from crdtdb.wire.messages import LINEAGES_SINCE, LineagesMessage

_AGAIN_SECONDS = 0.5


class Agreement(NamedTuple):
    """Whether a frame may be merged, and the lineages behind its clock; None if the peer is of a version that tells none."""

    agreed: bool
    lineages: Lineages | None


class Histories:
    """The histories of this node and its peers: in which sessions each actor wrote."""

    def __init__(
        self,
        store: Store,
        links: Links,
        outbox: Outbox,
        check_possible: Callable[[], None],
        forked: Callable[[str, float], None],
        renamed: Callable[[], None],
    ) -> None:
        """`check_possible` raises ProtocolError if no peer can know other writes of this node.

        `forked` is called with the reason why this node must enter as a new store, `renamed` when dots here have new names.
        """
        self._store, self._links, self._outbox = store, links, outbox
        self._check_possible, self._forked, self._renamed = check_possible, forked, renamed
        self._heard: dict[int, Lineages] = {}
        """The lineages that the peer of a link has sent."""
        self._told_at: dict[int, float] = {}
        self._spread: Lineages | None = None
        self._unchanged: dict[str, tuple[bytes, bytes]] = {}
        self.renamed_sessions = 0
        """How many sessions were renamed here since the node started."""

    def agreement(self, link: Link, clock: DotSet, digest: bytes | None, now: float) -> Agreement:
        """Compare the digest that came with a clock with what is known; where it differs, tell and ask the peer."""
        own = self._store.actor
        if clock.highest(own) > self._store.root.clock.highest(own):
            self._check_possible()
            self._forked(f"{link.peer} knows more of this node's writes than its store", now)
            return Agreement(False, None)
        if link.minor < LINEAGES_SINCE or digest is None:
            return Agreement(True, None)
        mine = self._store.root.lineages
        if mine.digest(clock) == digest:
            return Agreement(True, mine)
        heard = self._heard.get(link.number)
        if heard is not None and heard.digest(clock) == digest and not any(self._store.replication.forks(clock, heard)):
            return Agreement(True, heard)
        self.ask(link, now)
        return Agreement(False, None)

    def ask(self, link: Link, now: float) -> None:
        """Send this node's lineages to a peer, and ask for its own."""
        if link.minor >= LINEAGES_SINCE and now - self._told_at.get(link.number, -_AGAIN_SECONDS) >= _AGAIN_SECONDS:
            self._told_at[link.number] = now
            self._tell(link, wants=True)

    def unchanged(self, link: Link, mine: bytes, theirs: bytes | None, now: float) -> None:
        """Take note that nothing is missing from a peer. If its digest differs all the same, again and again, ask why."""
        peer = link.peer or "?"
        if theirs is None or theirs == mine:
            self._unchanged.pop(peer, None)
        elif self._unchanged.get(peer) == (mine, theirs):
            self.ask(link, now)
        else:
            self._unchanged[peer] = (mine, theirs)

    def heard(self, link: Link, message: LineagesMessage, now: float) -> bool:
        """Take in what a peer knows, and rename what is to be renamed here; return whether the two agree now.

        Raises EncodingError for what can't be.
        """
        clock, theirs = message.clock, message.lineages
        self._check(theirs)
        here, there = self._store.replication.forks(clock, theirs)
        own = self._store.actor
        mine = self._store.root.clock.highest(own)
        forked = clock.highest(own) > mine or any(fork.actor == own for fork in (*here, *there))
        if forked:
            self._check_possible()
            self._store.replication.renew_actor()  # first, or what is written meanwhile would use the renamed counters again
        for fork in here:
            self._rename(fork, link)
        if forked:
            self._forked(f"{link.peer} holds other writes of this node than its store", now)
            return False
        if here:
            self._renamed()
        for fork in there:
            self._outbox.log("WARNING", f"{link.peer} holds other writes of {fork}: it has to rename them first")
        if not there:
            link.agreed = True
            self._heard[link.number] = theirs
            self._store.replication.learn_lineages(clock, theirs)
        if message.wants or there:
            self._tell(link, wants=False)
        return not there

    def tick(self) -> None:
        """Tell the peers of new sessions before the rumors of what was written in them."""
        known = self._store.root.lineages
        if known is not self._spread:
            self._spread = known
            for way in self._links.ways.values():
                if way.minor >= LINEAGES_SINCE:
                    self._tell(way, wants=False)

    def forget(self, link: Link) -> None:
        """Forget what was heard over a link that is gone."""
        self._heard.pop(link.number, None)
        self._told_at.pop(link.number, None)

    def _rename(self, fork: Fork, link: Link) -> None:
        self._store.replication.rename(fork)
        self.renamed_sessions += 1
        self._outbox.log(
            "WARNING",
            f"a store was put back from a backup and written again: {link.peer} holds other writes of {fork}, so those here "
            f"are named {fork.session.tag.hex()[:8]} now. Both are kept",
        )

    def _check(self, theirs: Lineages) -> None:
        """Raise EncodingError for a session that has the name of an actor: to rename it would be to forge writes."""
        held = self._store.root
        for actor, lineage in theirs.items():
            for _, tag in lineage.sessions:
                if tag != actor and tag in held.clock.actors and not held.lineages.is_renamed(tag):
                    raise EncodingError(f"a session of {actor.hex()[:8]} with the name of an actor, {tag.hex()[:8]}")

    def _tell(self, link: Link, *, wants: bool) -> None:
        held = self._store.root
        self._outbox.send(link.number, LineagesMessage(wants, held.reached.tops(), held.lineages))
