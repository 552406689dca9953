"""Field types: counter, flag, set, map, register, multi-value register; text and list on Yrs.

Pure. Built on `crdtdb.causality`; knows nothing of documents, stores or networks.
"""

from crdtdb.crdts import catalogue
from crdtdb.crdts.contract import Field
from crdtdb.crdts.counter import Counter, renamed_baseline
from crdtdb.crdts.draft import REMNANT, Draft, OpenSequence, Outcome, Spot, kind_of, open_at_hand
from crdtdb.crdts.field_store import (
    HEADS,
    LIFE,
    NO_FIELDS,
    NO_JOURNALS,
    Address,
    Delta,
    Fields,
    Journals,
    Place,
    heads,
    join_fields,
    merge_journals,
)
from crdtdb.crdts.flag import Flag
from crdtdb.crdts.journal import (
    EMPTY_JOURNAL,
    Creations,
    GapError,
    Journal,
    Snapshot,
    Strand,
    Update,
    Vector,
    join_vectors,
    joined_vector,
    within,
)
from crdtdb.crdts.map import Map
from crdtdb.crdts.register import MultiValue, Register
from crdtdb.crdts.sequence_fields import List, Positional, SequenceField, Text
from crdtdb.crdts.sequences import Sequence, Step, check_update, writer_under
from crdtdb.crdts.set import Set
from crdtdb.crdts.signature import Signature

catalogue.register_types(Map, Text, List, Set, MultiValue, Counter, Flag, Register)

__all__ = [
    "EMPTY_JOURNAL",
    "HEADS",
    "LIFE",
    "NO_FIELDS",
    "NO_JOURNALS",
    "REMNANT",
    "Address",
    "Counter",
    "Creations",
    "Delta",
    "Draft",
    "Field",
    "Fields",
    "Flag",
    "GapError",
    "Journal",
    "Journals",
    "List",
    "Map",
    "MultiValue",
    "OpenSequence",
    "Outcome",
    "Place",
    "Positional",
    "Register",
    "Sequence",
    "SequenceField",
    "Set",
    "Signature",
    "Snapshot",
    "Spot",
    "Step",
    "Strand",
    "Text",
    "Update",
    "Vector",
    "catalogue",
    "check_update",
    "heads",
    "join_fields",
    "join_vectors",
    "joined_vector",
    "kind_of",
    "merge_journals",
    "open_at_hand",
    "renamed_baseline",
    "within",
    "writer_under",
]
