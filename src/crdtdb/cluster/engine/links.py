"""The connections of a node as the engine sees them: numbered links, and the way to each peer.

A node sends requests over the links that it dialed, so a *way* is a greeted link with an address; links that came in carry
the requests of others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from crdtdb.cluster.engine.actions import Close, Dial, Outbox
from crdtdb.gossip import Dialer, GossipConfig
from crdtdb.limits import LINKS_PER_PEER_MAX
from crdtdb.security.peer import PeerIdentity
from crdtdb.wire.messages import MINOR, PARTS_SINCE, Greeting, Member, Message, Ping
from crdtdb.wire.parts import Assembly


@dataclass(slots=True)
class Link:
    """One connection. `address` is the one that was dialed, None for one that came in."""

    number: int
    address: str | None
    certified: PeerIdentity | None
    heard: float
    """When something last came, or it was opened."""
    peer: str | None = None
    """The member's name, once greeted."""
    greeting: Greeting | None = None
    """The greeting that it sent."""
    minor: int = 0
    """The minor version of the protocol that both sides speak."""
    assembly: Assembly = field(default_factory=Assembly)
    """The message that is coming in parts."""
    agreed: bool = False
    """Whether the peer is known to mean the same writes by the same dots: else what it acknowledges says nothing."""

    def __str__(self) -> str:
        name = self.peer or (self.certified.name if self.certified is not None else "a stranger")
        return f"{name} at {self.address}" if self.address is not None else name


class Links:
    """All links of one node."""

    def __init__(
        self,
        dialer: Dialer,
        config: GossipConfig,
        outbox: Outbox,
        forgotten: Callable[[Link], None],
        minor: int = MINOR,
    ) -> None:
        """`forgotten` is called with each link that is gone; `minor` is the version of the protocol that this node speaks."""
        self._minor = minor
        self.dialer, self._config, self._outbox, self._forgotten = dialer, config, outbox, forgotten
        self._links: dict[int, Link] = {}
        self.ways: dict[str, Link] = {}
        """The greeted link that this node dialed, for each peer."""
        self._ignored: set[str] = set()
        """Addresses that lead to this node itself, or to a peer that is reached by another."""
        self._unreachable: set[str] = set()
        self.greeted_or_gone = 0
        """How often a link was greeted or is gone: as long as it stays, `greetings` does."""

    def opened(self, number: int, address: str | None, certified: PeerIdentity | None, now: float) -> Link:
        """Add a new connection."""
        link = self._links[number] = Link(number, address, certified, now)
        return link

    def get(self, number: int) -> Link | None:
        """Return a link that is there."""
        return self._links.get(number)

    def greeted(self, number: int) -> bool:
        """Whether the handshake of a link is over."""
        link = self._links.get(number)
        return link is not None and link.peer is not None

    def introduced(self, link: Link, greeting: Greeting) -> None:
        """The handshake of a link is over."""
        link.peer, link.greeting = greeting.name, greeting
        link.minor = min(self._minor, greeting.minor)
        if link.minor >= PARTS_SINCE:
            self._outbox.in_parts.add(link.number)
        self.greeted_or_gone += 1

    def is_connected(self, name: str) -> bool:
        """Whether a peer has greeted over a link that is there, whichever side dialed."""
        return name in self.ways or any(link.peer == name for link in self._links.values())

    def close_older(self, name: str, now: float) -> None:
        """Close the oldest of the connections that a peer has dialed, if there are too many: each may hold a large message."""
        dialed = [link for link in self._links.values() if link.peer == name and link.address is None]
        for link in dialed[:-LINKS_PER_PEER_MAX]:
            self.close(link, now, f"closing an older connection with {link}: it has more than {LINKS_PER_PEER_MAX}")

    def peers(self) -> list[str]:
        """Return the names of all connected peers, whichever side dialed."""
        return sorted({link.peer for link in self._links.values() if link.peer is not None})

    def all(self) -> list[Link]:
        """Return every link, its handshake over or not."""
        return list(self._links.values())

    def greeted_links(self) -> list[Link]:
        """Return the links whose handshake is over."""
        return [link for link in list(self._links.values()) if link.peer is not None]

    def greetings(self) -> dict[str, Greeting]:
        """Return each peer's greeting, except for a peer that is changing its identity: it has connections under both."""
        greetings: dict[str, Greeting] = {}
        unclear = set()
        for link in self._links.values():
            if link.greeting is not None:
                other = greetings.setdefault(link.greeting.name, link.greeting)
                if (other.store_id, other.actor) != (link.greeting.store_id, link.greeting.actor):
                    unclear.add(other.name)
        return {name: greeting for name, greeting in sorted(greetings.items()) if name not in unclear}

    def start_over(self, now: float) -> None:
        """Close every link, so that this node greets again."""
        self._ignored.clear()
        for link in list(self._links.values()):
            self.close(link, now)

    def reached(self, link: Link, name: str, now: float) -> bool:
        """Make a link the way to a peer; return whether it is, or closed since there is another."""
        if name in self.ways:
            self.ignore(link.address or "?")
            self.close(link, now)
            return False
        self.ways[name] = link
        self._unreachable.discard(link.address or "?")
        self.dialer.greeted(link.address or "?")
        return True

    def failed(self, address: str, reason: str, now: float) -> None:
        """Take note that an address can't be reached; say so the first time, since it will be tried for ever."""
        level = "DEBUG" if address in self._unreachable else "WARNING"
        self._unreachable.add(address)
        self._outbox.log(level, f"can't reach {address}: {reason}; trying again until it is there")
        self.dialer.ended(address, now)

    def ignore(self, address: str) -> None:
        """Don't dial an address while the peers are as they are."""
        self._ignored.add(address)

    def dial(self, addresses: set[str], now: float) -> None:
        """Keep a connection to each of these addresses."""
        self.dialer.want(addresses - self._ignored, now)
        for address in self.dialer.due(now):
            self._outbox.actions.append(Dial(address))

    def send_to(self, name: str, message: Message) -> None:
        """Send a request to a peer, if there is a way."""
        way = self.ways.get(name)
        if way is not None:
            self._outbox.send(way.number, message)

    def reply(self, link: Link, message: Message) -> None:
        """Answer over the link by which a request came."""
        self._outbox.send(link.number, message)

    def keep_alive(self, news: Callable[[], tuple[Member, ...]], now: float) -> None:
        """Close links with an unfinished handshake or without traffic; ping quiet ones."""
        for link in list(self._links.values()):
            silent = now - link.heard
            if link.assembly.waiting and now - link.assembly.heard > self._config.exchange_timeout:
                link.assembly.drop()
            if link.peer is None and silent > self._config.greeting_timeout:
                self.close(link, now, f"closing the connection with {link}: no handshake in time")
            elif link.peer is not None and silent > self._config.silence_timeout:
                self.close(link, now, f"closing the connection with {link}: silent for {silent:.0f} s")
            elif link.address is not None and link.peer is not None and silent > self._config.silence_timeout / 3:
                self._outbox.send(link.number, Ping(0, news()))

    def close(self, link: Link, now: float, why: str | None = None) -> None:
        """Close a link once what was sent before has gone out."""
        if why is not None:
            self._outbox.log("WARNING", why)
        self._outbox.actions.append(Close(link.number))
        self.closed(link.number, now)

    def close_all(self, goodbye: Message, now: float) -> None:
        """Say goodbye to every peer, and close every link."""
        for link in list(self._links.values()):
            if link.peer is not None and link.address is not None:
                self._outbox.send(link.number, goodbye)
            self.close(link, now)

    def closed(self, number: int, now: float) -> None:
        """Take note that a link is gone."""
        link = self._links.pop(number, None)
        if link is None:
            return
        self._outbox.in_parts.discard(number)
        self.greeted_or_gone += 1
        if link.address is not None:
            self.dialer.ended(link.address, now)
        if link.peer is not None and self.ways.get(link.peer) is link:
            del self.ways[link.peer]
            self._ignored.clear()
            self._outbox.log("INFO", f"the connection with {link} ended")
        self._forgotten(link)
