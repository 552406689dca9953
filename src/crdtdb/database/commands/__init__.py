"""Commands: every write to documents, as values. The library and CouchDB's protocol write through the same.

A command names its collection and document; `apply` does it in a transaction and returns what it wrote. Many commands in one
transaction are a list of them (`apply_each`). A `Committer` is their one way into a store: the plain one commits at once, and
`crdtdb.couchdb.validation` has one that asks the validation functions of design documents first.

`exact` commands come from clients that know trees of revisions: they replace the leaf that they name and no other, even one
with an equal body, and may name a leaf by the revision under which it was published.
"""

from crdtdb.database.commands.base import Attachments, Command, Data, Uploaded
from crdtdb.database.commands.committer import Committer, Outcome, apply_each
from crdtdb.database.commands.edits import Attach, Delete, Edit, Purge, Put, PutIfAbsent
from crdtdb.database.commands.factory import CommandFactory
from crdtdb.database.commands.imports import ImportRevision
from crdtdb.database.commands.patches import MergePatch, merge_patch
from crdtdb.database.commands.resolutions import Resolve, ResolveUnchanged

__all__ = [
    "Attach",
    "Attachments",
    "Command",
    "CommandFactory",
    "Committer",
    "Data",
    "Delete",
    "Edit",
    "ImportRevision",
    "MergePatch",
    "Outcome",
    "Purge",
    "Put",
    "PutIfAbsent",
    "Resolve",
    "ResolveUnchanged",
    "Uploaded",
    "apply_each",
    "merge_patch",
]
