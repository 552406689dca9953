"""Duties of a node about the members: names them in the roster, drops those that were retired, saves what gossip knows."""

from __future__ import annotations

from crdtdb.cluster.engine.actions import Outbox
from crdtdb.cluster.engine.links import Links
from crdtdb.cluster.engine.maintenance import Upkeep
from crdtdb.cluster.engine.saved_roster import KeptRoster, keep_roster
from crdtdb.gossip import Membership
from crdtdb.store import Store
from crdtdb.wire.messages import Status, SyncHint


class MemberDuties:
    """What one node does about the members of its cluster."""

    def __init__(
        self, store: Store, membership: Membership, upkeep: Upkeep, links: Links, outbox: Outbox, saved: KeptRoster
    ) -> None:
        """`saved` is what gossip knew of the members when the node last ran."""
        self._store, self._membership, self._upkeep = store, membership, upkeep
        self._links, self._outbox = links, outbox
        self._logged = {member.name: member.status for member in saved.members}
        """The status that was logged last, by member."""

    def name_members(self, now: float) -> None:
        """Name the peers that the roster lacks, if it may lack any."""
        if self._upkeep.naming_is_due(self._links.greeted_or_gone, now):
            for name in self._upkeep.name_members(self._links.greetings()):
                self._links.send_to(name, SyncHint())

    def drop_strangers(self, now: float) -> None:
        """Forget members known from hearsay alone, and close the links of those that were retired."""
        entries = self._upkeep.roster.entries()
        self._membership.forget_hearsay(entries.keys(), now)
        for entry in entries.values():
            if entry.retired and entry.store_id != self._membership.me.store_id:
                self._membership.forget(entry.name, entry.store_id)
        for link in self._links.greeted_links():
            if link.peer not in self._membership.others:
                self._links.close(link, now, f"closing the connection with {link}: it was retired")

    def save_changes(self, joining: bool) -> None:
        """Log which members are alive or gone, and save what gossip knows, if that has changed."""
        if not self._membership.changed:
            return
        for name, member in self._membership.others.items():
            if self._logged.get(name) is not member.status:
                self._logged[name] = member.status
                level = "INFO" if member.status is Status.ALIVE else "WARNING"
                self._outbox.log(level, f"member {name} is {member.status.name.lower()}")
        self.save(joining)

    def save(self, joining: bool) -> None:
        """Save what gossip knows of the members."""
        self._membership.changed = False
        members = tuple(self._membership.others.values())
        keep_roster(self._store, KeptRoster(self._membership.me.incarnation, not joining, members))
