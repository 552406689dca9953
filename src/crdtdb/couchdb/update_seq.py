"""Update sequences: how far somebody has read a collection, in a form that serves at every node of the cluster.

    seq = number "-" base64url(CBOR [mark, creation, clock])

The number is a place in the feed of the store that wrote it, which the mark names. At any other store the clock tells what
the reader has: the node clock when he had last read to the end. Between two ends the number alone moves on, so that a clock
never claims a change that a reader was not given: whoever moves to another node in the midst of a first replication is
offered some changes again, and asks for none of them twice. A seq of a collection that has been dropped reads as 0.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import NamedTuple

from crdtdb.causality import EMPTY, Dot, DotSet
from crdtdb.couchdb.errors import bad_request
from crdtdb.errors import EncodingError
from crdtdb.store import Store, StoreRoot
from crdtdb.wire.cbor import decode, encode

_TEXT_BYTES_MAX = 64 * 1024


class Seq(NamedTuple):
    """A place in a collection: at the store of `mark` a number, elsewhere a clock; `creation` is one of the collection's."""

    number: int
    clock: DotSet = EMPTY
    mark: bytes = b""
    creation: Dot | None = None


ZERO = Seq(0)


def encode_seq(seq: Seq) -> str:
    """Write a seq."""
    clock = [[actor, *(bound for pair in ranges for bound in pair)] for actor, ranges in seq.clock.items()]
    creation = list(seq.creation) if seq.creation is not None else None
    return f"{seq.number}-{urlsafe_b64encode(encode([seq.mark, creation, clock])).decode().rstrip('=')}"


def decode_seq(text: str) -> Seq:
    """Read a seq, or a bare number. Raises CouchError for anything else."""
    number, dash, rest = text.partition("-")
    try:
        if len(text) > _TEXT_BYTES_MAX or not number.isascii() or not number.isdigit() or len(number) > 18:
            raise ValueError(text[:80])
        if not dash:
            return Seq(int(number))
        mark, creation, clock = decode(urlsafe_b64decode(rest + "=" * (-len(rest) % 4)))
        if type(mark) is not bytes or any(type(actor) is not bytes or len(actor) != 16 for actor, *_ in clock):
            raise TypeError(text[:80])
        ranges = {actor: list(zip(bounds[::2], bounds[1::2], strict=True)) for actor, *bounds in clock}
        dot = Dot(creation[0], creation[1]) if creation is not None else None
        return Seq(int(number), DotSet.from_ranges(ranges), mark, dot)
    except (ValueError, TypeError, LookupError, EncodingError) as error:
        raise bad_request("Malformed sequence supplied in 'since' parameter.") from error


def seq_at_end(store: Store, name: str, held: StoreRoot) -> Seq:
    """Return the seq of a reader who has everything that was held at one moment."""
    collection = held.collections[name]
    return Seq(collection.seq, held.clock, mark_of(store, collection.number), min(held.names[name], default=None))


def mark_of(store: Store, number: int) -> bytes:
    """Return the mark of a collection in this store, in this life of either."""
    identity = store.identity
    return blake2b(identity.store_id + identity.actor + b"%d" % number, digest_size=6).digest()


def seq_now(store: Store, name: str) -> str:
    """Return the seq of a reader who has everything that is there now."""
    return encode_seq(seq_at_end(store, name, store.root))


def life_of(store: Store, name: str) -> str:
    """Return a number that is the same at every node, and another when the collection was dropped and made again.

    It stands where CouchDB has the time at which a database was made: replicators compare it to notice that.
    """
    creation = min(store.root.names[name], default=None)
    said = creation.actor + b"%d" % creation.counter if creation is not None else b""
    return str(int.from_bytes(blake2b(said, digest_size=6).digest()))
