"""Causality: dots, dot sets and the version vectors inside them.

Pure. Knows nothing of documents, stores or networks.
"""

from crdtdb.causality.dots import ACTOR_BYTES, Actor, Dot
from crdtdb.causality.dotset import EMPTY, DotSet
from crdtdb.causality.lineage import TAG_BYTES, Fork, Lineage, Lineages, Session

__all__ = ["ACTOR_BYTES", "EMPTY", "TAG_BYTES", "Actor", "Dot", "DotSet", "Fork", "Lineage", "Lineages", "Session"]
