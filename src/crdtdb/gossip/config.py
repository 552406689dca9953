"""The numbers of gossip, in one place, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GossipConfig:
    """Times are seconds."""

    ping_interval: float = 1.0
    """One member is probed in each. SWIM's protocol period: a dead member is noticed within about two of them."""
    ping_timeout: float = 0.4
    """Then others are asked to try: long against a round trip, short against the interval."""
    indirect_probes: int = 3
    """How many are asked. Three make it unlikely that one lossy path condemns a member (SWIM, section 5)."""
    suspicion: float = 5.0
    """How long a suspect may refute before it counts as dead. Death has no consequence but in the roster."""
    updates_in_message: int = 12
    """News of members that travel along with a ping: about 100 bytes each, so that it fits one packet."""
    exchange_interval: float = 1.0
    """How often a node asks a random peer what it lacks, unless their clocks are known to be equal."""
    exchange_timeout: float = 15.0
    """After this long without a page the exchange is given up; what arrived is kept."""
    comparison_timeout: float = 600.0
    """The same for a comparison: both sides read everything before they speak again."""
    exchanges_at_once: int = 2
    """Each holds a few pages in memory here, and a snapshot at the other side."""
    pages_ahead: int = 4
    """Pages on their way before one is acknowledged: a megabyte, enough to fill a long line."""
    updates_merged_at_once: int = 300
    """Documents with more than a first revision in one commit of a page: 30 ms, for which writers and other frames wait. First
    revisions, of which a page has 2,000 at most, are so quick that to cut them would cost more in fsyncs."""
    rumor_fanout: int = 4
    """To how many peers a fresh write is pushed in each hop: 4 reach 98 % of any cluster, exchanges the others."""
    dial_first: float = 0.05
    dial_most: float = 2.0
    """The pause before the first and between later attempts to connect, doubled each time, with jitter, for ever."""
    greeting_timeout: float = 10.0
    """Half a handshake is held open no longer."""
    silence_timeout: float = 12.0
    """A connection through which nothing came for so long, pings neither, is closed and dialed again."""
    stability_interval: float = 1.0
    """How often the acknowledgements are counted: each time the cut moves it is written to disk."""
    collection_interval: float = 60.0
    """How often what was held back, for clients say, is looked at again. What becomes stable is collected at once."""
    member_absence_max: float | None = None
    """A member that was away for so long is retired, by a node that sees more than half of all. None: never by itself."""
    audit_interval: float = 24 * 3600.0
    """How often a node compares what it holds with a random peer, in the background. 0: never by itself."""
    audit_documents_a_second: float = 20_000.0
    """So many documents a node reads for audits, its own and those of others: an audit must not be noticed."""
    history_retention: float | None = None
    """After so many seconds the values of replaced revisions go, once they are stable. None: on compaction alone."""
    tombstone_grace: float = 300.0
    """How old a tombstone is at least when it is collected: long enough for a client of CouchDB's protocol that has begun to
    read to leave its first checkpoint, which then holds what it hasn't read. Nodes need no grace."""
    showing_interval: float = 10.0
    """How often `system.collections` is brought up to date, by one member, if something has changed."""
    confirm_timeout: float = 1.5
    """How many seconds a node that starts asks whether a member knows more of its actor than it does itself."""
