"""Gossip without sockets: membership, rumors, dialing and the flow of exchanges. Events in, actions out.

Owns no clock, no random source and no store: the time comes with each call, the random source as an argument.
"""

from crdtdb.gossip.config import GossipConfig
from crdtdb.gossip.dialing import Dialer
from crdtdb.gossip.exchange import Asking, Form, PageFlow
from crdtdb.gossip.membership import Membership
from crdtdb.gossip.rumors import Rumors
from crdtdb.gossip.stability import Holder, Stability

__all__ = ["Asking", "Dialer", "Form", "GossipConfig", "Holder", "Membership", "PageFlow", "Rumors", "Stability"]
