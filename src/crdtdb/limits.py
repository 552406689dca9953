"""Every bound in one place: what a peer or a client can send, and what the engine keeps, is finite.

A name ends in its unit. Beyond a bound the input is refused with a named error, and the node serves on.
"""

from typing import Final

# A document, as a client writes it.
DOCUMENT_ID_BYTES_MAX: Final = 4_096
COLLECTION_NAME_BYTES_MAX: Final = 238
DOCUMENT_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of its plain part. Its fields have bounds of their own; all these are on writing more, and not on what was merged."""
WHOLE_DOCUMENT_BYTES_MAX: Final = 64 * 1024 * 1024
"""A document as it is written back, with the values of its fields."""
DOCUMENT_BODIES_BYTES_MAX: Final = 64 * 1024 * 1024
"""The plain parts of all siblings."""
DOCUMENT_DEPTH_MAX: Final = 100
INTEGER_BITS_MAX: Final = 14_000
"""Of one number in a document: some 4,200 digits, beyond which Python itself refuses to read one."""
DOCUMENT_LEAVES_MAX: Final = 1_000

# Documents that a node warns of, and how many it remembers.
LARGE_DOCUMENT_BYTES: Final = 2 * 1024 * 1024
LARGE_DOCUMENT_LEAVES: Final = 200
SLOW_DOCUMENT_SECONDS: Final = 0.25
LARGE_DOCUMENTS_MAX: Final = 32

# Revisions.
REVS_LIMIT: Final = 1_000
GENERATION_MAX: Final = 2**53 - 1
LOCAL_GENERATION_MAX: Final = 10**15 - 1
"""Of a local record, which clients send back as `0-N`."""
SWEEP_MAX: Final = 2**63 - 1
STAMP_AHEAD_MILLISECONDS_MAX: Final = 24 * 3600 * 1000
"""A stamp further ahead of this node's clock is no clock's that is merely wrong: what it says of an age doesn't count."""

# The wire between nodes.
FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
"""A longer message travels in parts."""
PART_BYTES_MIN: Final = 1024 * 1024
PARTS_MAX: Final = 128
"""Of one message, fewer than `SEND_QUEUE_FRAMES_MAX`."""
MESSAGE_BYTES_MAX: Final = 512 * 1024 * 1024
"""A message that comes in parts: several times what one document may have, since several sides may each have that much."""
FRAME_DEPTH_MAX: Final = 32
HANDSHAKE_FRAME_BYTES_MAX: Final = 1024 * 1024
PAGE_BYTES_TARGET: Final = 256 * 1024
PAGE_DOCUMENTS_MAX: Final = 2_000
RUMOR_DOCUMENTS_MAX: Final = 64
RUMOR_BYTES_MAX: Final = 64 * 1024
RUMOR_ACTORS_MAX: Final = 256
"""In the clock that goes along."""
RUMOR_PATH_LINKS_MAX: Final = 8
MEMBERS_MAX: Final = 4_096
NAME_BYTES_MAX: Final = 64
ADDRESS_BYTES_MAX: Final = 255
WALK_PLACES_MAX: Final = 16_384
"""Documents that a walk through the dot log remembers, so as not to decode them again: about four megabytes."""
AHEAD_RANGES_MAX: Final = 512
"""Ranges of one actor that may come ahead of their turn in the node clock; beyond, a dot waits in its document."""

LINEAGE_SESSIONS_MAX: Final = 1_000
"""Sessions in which one actor wrote; beyond, the store takes a new actor when it is opened."""

# Connections.
CONNECTIONS_MAX: Final = 1_024
"""Of one listener; and no more than a quarter of the open files that the process may have (`ulimit -n`)."""
CONNECTIONS_OF_ADDRESS_MAX: Final = 512
STRANGERS_MAX: Final = 128
"""Connections with the gossip port that haven't greeted yet: beyond, the oldest is closed."""
STRANGERS_OF_ADDRESS_MAX: Final = 64
ACCEPT_PAUSE_SECONDS: Final = 0.1
"""Before the next attempt, where a connection couldn't be accepted."""
CLOSE_SECONDS_MAX: Final = 2.0
"""So long the other side may take to take part in closing."""
HANDSHAKE_SECONDS_MAX: Final = 10.0
CONNECT_SECONDS_MAX: Final = 3.0
"""For the TCP connection alone: the kernel repeats its first packet ever more seldom, and a new attempt begins again."""
UNACKNOWLEDGED_SECONDS_MAX: Final = 4.0
"""So long a sent byte may stay unacknowledged by the peer's kernel: then the way is broken, and a new one is looked for."""
LINKS_PER_PEER_MAX: Final = 4
"""Connections that one peer has dialed: a sound one has one, and for a moment another when that broke."""
DIALS_AT_ONCE_MAX: Final = 64
"""Attempts to connect with other nodes under way: a member can make up addresses."""
SEND_QUEUE_FRAMES_MAX: Final = 256
ARRIVED_FRAMES_MAX: Final = 64
"""Of one connection, that wait for their turn while signs of life are read on: parts of a message, at most. A larger frame
waits alone."""
SEND_SECONDS_MAX: Final = 15.0
"""For one frame: who reads more slowly is taken for gone."""
SHUTDOWN_SECONDS_MAX: Final = 5.0

# Threads of one event loop, by duty: see `crdtdb.threads`.
GOSSIP_THREADS_MAX: Final = 1
HOUSEKEEPING_THREADS_MAX: Final = 4
COMMIT_THREADS_MAX: Final = 8
VALIDATION_THREADS_MAX: Final = 4
READ_THREADS_MAX: Final = 4
PARSE_THREADS_MAX: Final = 2
QUERY_THREADS_MAX: Final = 4
"""They compute more than they wait, and each takes the interpreter from the event loop for some milliseconds."""
VIEW_THREADS_MAX: Final = 4
FILTER_THREADS_MAX: Final = 4
PASSWORD_THREADS_MAX: Final = 2
ATTACHMENT_THREADS_MAX: Final = 4
WAITING_THREADS_MAX: Final = 32

HOLD_OFF_SECONDS_FIRST: Final = 1.0
HOLD_OFF_SECONDS_MAX: Final = 60.0
"""So long no connection is kept with a peer whose frame was refused: doubled each time that it happens again."""
REASON_CHARACTERS_MAX: Final = 500
"""Of what an error says, in a log line that a peer brought about."""

# What a node believes of others.
INCARNATION_MAX: Final = 2**53 - 1
INCARNATION_JUMP_MAX: Final = 1_024
"""By how much the incarnation that others tell of a member may exceed the one that is known: what the member says of itself on
its own connection may exceed it by any number."""
TOKEN_MAX: Final = 2**62 - 1
TOKEN_JUMP_MAX: Final = 2**36
"""By how much a token that another member tells may exceed the highest that is known: 10 leases a second for 200 years."""
CLOCK_ACTORS_MAX: Final = 16_384
CLOCK_RANGES_MAX: Final = 32_768
"""Of a clock in a frame: so a greeting stays within `HANDSHAKE_FRAME_BYTES_MAX`."""

# HTTP.
HEAD_BYTES_MAX: Final = 64 * 1024
"""Of a request's target and headers together, and so of any one line."""
HEADERS_MAX: Final = 200
HEAD_SECONDS_MAX: Final = 10.0
"""From the first byte of a request, or from the TLS handshake, to the end of its headers."""
PIPELINED_REQUESTS_MAX: Final = 16
SLOW_SECONDS_MAX: Final = 15.0
"""In so long at least `SLOW_BYTES_MIN` of a request's body must come, and of an answer be read."""
SLOW_BYTES_MIN: Final = 1_024
SESSION_REQUEST_BYTES_MAX: Final = 16 * 1024
"""Of a request to log in, whose sender isn't known yet."""
REQUEST_BYTES_MAX: Final = 128 * 1024 * 1024
"""Unless a node's configuration says otherwise. PouchDB pushes 100 documents at a time, with their photos inline."""
BODY_MEMORY_BYTES_MAX: Final = 320 * 1024 * 1024
"""What one request's body may take: its bytes, and `BODY_VALUE_BYTES` for each value that its JSON may become; more where
`request_bytes_max` is set higher."""
BODY_VALUE_BYTES: Final = 64
BODIES_MEMORY_BYTES_MAX: Final = 640 * 1024 * 1024
"""What the bodies of all requests may take at the same time, `BODIES_FREE_BYTES` of each not counted."""
BODIES_OF_CLIENT_BYTES_MAX: Final = 320 * 1024 * 1024
"""The same of one client, by its name."""
BODIES_FREE_BYTES: Final = 256 * 1024
BULK_DOCUMENTS_MAX: Final = 100_000
ATTACHMENT_BYTES_MAX: Final = 1024 * 1024 * 1024
"""Unless a node's configuration says otherwise."""

SESSION_SKEW_SECONDS_MAX: Final = 300
"""So far the clock of the node that issued a session may go before that of the node which is asked."""
PASSWORDS_WAITING_MAX: Final = 100
"""Attempts to log in that wait to be hashed; beyond, 503."""

ANSWER_PAGE_BYTES: Final = 256 * 1024
"""An answer of many documents is read, written and sent in pages of about so much; one document may have more."""

# Queries.
FIND_SORTED_MAX: Final = 100_000
"""Documents that a query without a limit sorts in memory, some hundred bytes for each."""

CHANGE_MANY_MAX: Final = 10_000
"""Documents that one update or deletion by a selector may change."""
FIND_LIMIT: Final = 25
"""Documents that an answer of `_find` has, unless more are asked for."""

PATTERN_BYTES_MAX: Final = 10_000
"""Of a regular expression."""
PATTERN_SECONDS_MAX: Final = 0.5
"""CPU of this process while a regular expression is matched with one text."""
PATTERN_SECONDS_FREE: Final = 3.0
"""CPU that the regular expressions of one query may take beyond `PATTERN_SECONDS_PER_TEXT` for each text."""
PATTERN_SECONDS_PER_TEXT: Final = 0.001
PATTERN_LARGE_TEXT_BYTES: Final = 64 * 1024
"""Texts beyond this are matched one at a time: at worst a match takes some hundred bytes for each character."""

# JavaScript of design documents.
SCRIPT_SECONDS_MAX: Final = 5.0
"""CPU that one call of a function may take."""
SCRIPT_MEMORY_BYTES_MAX: Final = 64 * 1024 * 1024
"""What one function may hold."""
SCRIPT_PROCESSES_MAX: Final = 2
"""Processes of a node for each of views, filters and validators; each process may hold 32 functions."""

# Fields.
FIELD_PATH_STEPS_MAX: Final = 32
FIELD_KEY_BYTES_MAX: Final = 1_024
FIELD_ELEMENT_BYTES_MAX: Final = 64 * 1024
"""Of one element of a set, as JSON."""
FIELD_ADDRESSES_MAX: Final = 20_000
"""Places where one document keeps deltas: a field, an element of a set and an entry of a map is one each."""
FIELDS_BYTES_MAX: Final = 4 * 1024 * 1024
"""All contents of the small fields of one document."""
COUNTER_MAX: Final = 2**53 - 1
"""What one actor may have added to a counter: a million actors don't leave 64 bits."""
COUNTER_RUNS_MAX: Final = 16
"""Runs of one actor in a counter, one for each session that incremented it; beyond, the next one joins them."""
SEQUENCE_BYTES_MAX: Final = 6 * 1024 * 1024
"""One text or list, in the encoding of Yrs: with `DOCUMENT_BYTES_MAX` it fits a frame."""
SEQUENCES_MAX: Final = 1_000
"""Texts and lists of one document, those of its earlier lives included."""
OPERATIONS_MAX: Final = 10_000
"""In one edit."""

# Open texts and lists, kept in memory so that the next edit needn't read them.
OPEN_SEQUENCES_MAX: Final = 64
OPEN_SEQUENCES_BYTES_MAX: Final = 64 * 1024 * 1024
JOURNAL_UPDATES_MAX: Final = 512
"""Updates of one journal that aren't folded; beyond, all are, and the newest stay beside the snapshot for peers."""
JOURNAL_UPDATES_KEPT: Final = 64

# Locks.
LOCK_SECONDS_MAX: Final = 300.0
"""The longest time to live of a lease: so long a member holds off that doesn't know what others have promised."""
LOCK_SECONDS_MIN: Final = 1.0
LOCKS_MAX: Final = 10_000
"""Promises of one member at a time, and leases through one node."""
LOCK_WAITING_MAX: Final = 1_000
"""Requests that wait for one lock."""
LOCK_NAME_BYTES_MAX: Final = 512
