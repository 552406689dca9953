"""When a node may take writes.

Rule 11: a joiner not before it has everything that its first peer had. Rule 3: a node that goes on as the actor that it
was, not before the members it knew were asked whether they know more of that actor; if one can't be asked in time, the
node writes as a new actor instead of refusing writes until the last member is back.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Readiness:
    """What still has to happen."""

    joining: bool
    unsure: bool
    to_ask: frozenset[str]
    until: float
    rejoin: bool = False
    """Whether to enter as a new store if the others have retired this node."""
    retired: bool = False
    """Whether the others have gone on without this node."""
    named: bool = False
    """Whether the roster names the actor that this node writes as: that comes before anything else it writes."""
    _asked: set[str] = field(default_factory=set)
    _also_joining: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not self.to_ask:
            self.unsure = False

    @property
    def ready(self) -> bool:
        """Whether writes are taken."""
        return self.may_be_named and self.named

    @property
    def may_be_named(self) -> bool:
        """Whether nothing is left to do but to name the actor."""
        return not self.joining and not self.unsure and not self.retired

    @property
    def why_not(self) -> str:
        """What the node is waiting for."""
        if self.retired:
            return "this node was retired: to come back, start it once with --rejoin"
        if self.joining:
            return "the node is joining its cluster: it takes writes when it has what the others have"
        if not self.unsure:
            return "the node is about to name itself in the roster"
        return "the node has just started and is asking the others about its last writes"

    def greeted(self, name: str) -> None:
        """Take note that a member was asked, by the clock in its greeting."""
        self._asked.add(name)
        if self.unsure and self.to_ask <= self._asked:
            self.unsure = False

    def sure(self) -> None:
        """The node writes as a new actor."""
        self.unsure = self.named = False

    def give_up_asking(self, now: float) -> bool:
        """Return whether a new actor is needed, since the time for asking is over."""
        return self.unsure and now >= self.until

    def joined(self) -> None:
        """The first exchange is complete."""
        self.joining = False

    def peer_serves(self, name: str) -> None:
        """Take note that a peer isn't new (any more)."""
        self._also_joining.discard(name)

    def peer_is_joining(self, name: str, peers: set[str], first: bool) -> bool:
        """Take note that a peer is joining as well. If all of `peers` are, the first begins; return whether that is us."""
        self._also_joining.add(name)
        if self.joining and first and peers <= self._also_joining:
            self.joining = False
            return True
        return False
