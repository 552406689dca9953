"""Key layout of a store: every key, and the value under it.

    !format                              [name of the format, version]
    !identity                            [store id, actor, place]
    !running                             there while a process has the store open
    !entering                            there while the store may have fewer, or other, writes than its peers assume
    !roster                              the saved roster of gossip
    !promises                            the state of the lock voter other than its promises
    !promise/ name                       one promise of the lock voter, durable before the answer is sent
    a actor#                             the 16 bytes of an actor
    e set#                               a set of creations: [actor#, counter, ...]
    k actor#                             that actor's ranges in the node clock: [first, last, ...]
    c                                    the catalogue: [names, marks, residue, next collection#]
    n collection#                        [documents, deleted documents, last seq, sweep, conflicts, bytes of bodies,
                                         sum of live revisions]
    x collection#                        a sweep under way: [name or null, the id to go on from]
    d collection# id                     the document: [seq, leaves, bodies, fields, journals, residue]
    h collection# length id generation digest
                                         a revision that is no leaf any more:
                                         [parent digest, parent dot, deleted, stamp, own dot, value or null, seen,
                                          addresses of texts and lists]
    t collection# length id address      the journal of a text or list; `address` is a digest of eight bytes, then
      0                                  its snapshot: [vector, content]
      0 creations#                       that of updates of other creations than the journal's: [vector, content, creations#]
      1 actor# counter                   an update: [after, content], and creations# if they aren't the journal's
    s collection# seq                    the changes feed: id, one row a document
    A sha256                             the content of an attachment: [blob, md5, length]
    b blob piece#                        a piece of it
    r sha256 collection# id              a reference to it, by a document or one of its older revisions
    q collection# length id sha256       the same reference, found from the document
    u blob                               an upload without a reference yet: its sha256, or empty while it is in progress
    l actor# counter                     the dot log: collection# id, or empty for a dot of the catalogue
    y actor#                             that actor's ranges in the stable cut: [first, last, ...]
    z actor#                             that actor's lineage: [counter up to which it is known or null, first, tag, ...]
    w actor#                             what a context may name of that actor beyond the node clock: [1, highest]
    i collection# index#                 an index: [design document, name, definition, id to go on building from or null]
    I index# key id length               an entry: a value's sort key, then the document's id as a sort key has it
    j index# id                          the keys of a document's entries
    v collection# signature              a view: [index#, seq, rows]; its entries lie under `I` and `j` like an index's
    X index#                             an index that was dropped, whose rows are to be removed
    g actor# counter                     a document that can give something up once this dot is stable: collection# id
    G collection# id                     one that could now, were it not held back for a client

Numbers are big-endian, `#` marks four bytes, `seq`, `counter` and `generation` are eight, `length` is two. The dot log
has a row for each *live* dot alone: what a write replaces leaves it in the same commit, so an exchange reads what it will
send and nothing else.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct

from crdtdb.crdts import Address

FORMAT = b"!format"
IDENTITY = b"!identity"
RUNNING = b"!running"
ENTERING = b"!entering"
ROSTER = b"!roster"
PROMISES = b"!promises"
PROMISE = b"!promise/"
CATALOGUE = b"c"

FORMAT_NAME = "crdtdb"
FORMAT_VERSION = 7
"""1 and 2: before any release. 3: before conflicts and sizes were counted. 4: before rows were MessagePack.
5: before indexes. 6: before lineages and sums of live revisions."""
OLDEST_VERSION = 3


_numbered = Struct(">cI").pack
_numbered_twice = Struct(">cIQ").pack
_sized = Struct(">cIH").pack


def actor(number: int) -> bytes:
    """Return the key of an interned actor."""
    return _numbered(b"a", number)


def creations(number: int) -> bytes:
    """Return the key of an interned set of creations."""
    return _numbered(b"e", number)


def clock(actor_number: int) -> bytes:
    """Return the key of one actor's part of the node clock."""
    return _numbered(b"k", actor_number)


def counts(collection: int) -> bytes:
    """Return the key of a collection's counts."""
    return _numbered(b"n", collection)


def sweep(collection: int) -> bytes:
    """Return the key of a collection's sweep."""
    return _numbered(b"x", collection)


def document(collection: int, doc_id: bytes) -> bytes:
    """Return the key of a document; with an empty id, the beginning of all of them."""
    return _numbered(b"d", collection) + doc_id


def history(collection: int, doc_id: bytes) -> bytes:
    """Return the beginning of the keys of a document's replaced revisions."""
    return _sized(b"h", collection, len(doc_id)) + doc_id


def history_of(document_key: bytes) -> bytes:
    """Return the beginning of the keys of the replaced revisions of the document that lies under a key."""
    return b"h%b%b%b" % (document_key[1:5], (len(document_key) - 5).to_bytes(2, "big"), document_key[5:])


def revision(history_key: bytes, generation: int, digest: str) -> bytes:
    """Return the key of one replaced revision."""
    return history_key + generation.to_bytes(8, "big") + digest.encode()


def journals(collection: int, doc_id: bytes) -> bytes:
    """Return the beginning of the keys of a document's journals."""
    return _sized(b"t", collection, len(doc_id)) + doc_id


def journal(journals_key: bytes, address: Address) -> bytes:
    """Return the beginning of the keys of one journal."""
    parts = [part.encode() for part in (address.kind, address.part, *address.path)]
    return journals_key + blake2b(b"".join(b"%d:%b" % (len(part), part) for part in parts), digest_size=8).digest()


def snapshot(journal_key: bytes, creations_number: int | None = None) -> bytes:
    """Return the key of a journal's snapshot, or of that of another set of creations than most of it."""
    return journal_key + b"0" + (creations_number.to_bytes(4, "big") if creations_number is not None else b"")


def update(journal_key: bytes, actor_number: int, counter: int) -> bytes:
    """Return the key of one update."""
    return journal_key + b"1" + actor_number.to_bytes(4, "big") + counter.to_bytes(8, "big")


def change(collection: int, seq: int) -> bytes:
    """Return the key of a row of the changes feed."""
    return _numbered_twice(b"s", collection, seq)


def log(actor_number: int, counter: int) -> bytes:
    """Return the key of a row of the dot log."""
    return _numbered_twice(b"l", actor_number, counter)


def stable(actor_number: int) -> bytes:
    """Return the key of one actor's part of the stable cut."""
    return _numbered(b"y", actor_number)


def heard(actor_number: int) -> bytes:
    """Return the key of how far contexts may name an actor's writes beyond the node clock."""
    return _numbered(b"w", actor_number)


def lineage(actor_number: int) -> bytes:
    """Return the key of one actor's lineage."""
    return _numbered(b"z", actor_number)


def waiting(actor_number: int, counter: int) -> bytes:
    """Return the key under which a document waits for a dot to be stable."""
    return _numbered_twice(b"g", actor_number, counter)


def due(collection: int, doc_id: bytes) -> bytes:
    """Return the key under which a document waits for clients to have read it."""
    return _numbered(b"G", collection) + doc_id


def content(sha256: bytes) -> bytes:
    """Return the key of a content."""
    return b"A" + sha256


def pieces(blob: bytes) -> bytes:
    """Return the beginning of the keys of a content's pieces."""
    return b"b" + blob


def piece(blob: bytes, number: int) -> bytes:
    """Return the key of a piece."""
    return b"b" + blob + number.to_bytes(4, "big")


def upload(blob: bytes) -> bytes:
    """Return the key of an upload."""
    return b"u" + blob


def referring(sha256: bytes) -> bytes:
    """Return the beginning of the keys of the references to a content."""
    return b"r" + sha256


def reference(sha256: bytes, collection: int, doc_id: bytes) -> bytes:
    """Return the key of a reference."""
    return b"r" + sha256 + collection.to_bytes(4, "big") + doc_id


def references(collection: int, doc_id: bytes) -> bytes:
    """Return the beginning of the keys of a document's references."""
    return _sized(b"q", collection, len(doc_id)) + doc_id


def index(collection: int, number: int) -> bytes:
    """Return the key of what is known of an index."""
    return b"i" + collection.to_bytes(4, "big") + number.to_bytes(4, "big")


def entries(number: int) -> bytes:
    """Return the beginning of the keys of an index's entries."""
    return _numbered(b"I", number)


def entry(number: int, key: bytes, doc_id: bytes) -> bytes:
    """Return the key of a document's entry in an index."""
    place = id_place(doc_id)
    return b"%b%b%b%b" % (_numbered(b"I", number), key, place, len(place).to_bytes(2, "big"))


def id_place(doc_id: bytes) -> bytes:
    """Return an id as it stands behind a key: ordered as ids are, whatever follows."""
    return doc_id.replace(b"\x00", b"\x00\xff") + b"\x00"


def read_entry(entry_key: bytes) -> tuple[bytes, bytes]:
    """Read the key of an entry: the document's key in the index, and its id."""
    size = int.from_bytes(entry_key[-2:], "big")
    return entry_key[5 : -2 - size], entry_key[-2 - size : -3].replace(b"\x00\xff", b"\x00")


def view(collection: int, signature: bytes) -> bytes:
    """Return the key of a view; with an empty signature, the beginning of all of a collection's."""
    return _numbered(b"v", collection) + signature


def entered(number: int, doc_id: bytes) -> bytes:
    """Return the key of the list of a document's entries."""
    return _numbered(b"j", number) + doc_id


def leftover(number: int) -> bytes:
    """Return the key that marks a dropped index."""
    return _numbered(b"X", number)


def place(collection: int, doc_id: bytes) -> bytes:
    """Return the value of a row of the dot log."""
    return collection.to_bytes(4, "big") + doc_id


def read_place(value: bytes) -> tuple[int, bytes]:
    """Read a row of the dot log: the collection and the id."""
    return int.from_bytes(value[:4], "big"), value[4:]


def rest(prefix: bytes) -> tuple[bytes, bytes]:
    """Return the range of all keys that begin with a prefix."""
    return prefix, after(prefix)


def after(prefix: bytes) -> bytes:
    """Return the first key behind all that begin with a prefix."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1])
