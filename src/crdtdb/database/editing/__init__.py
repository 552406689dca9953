"""An edit of one document: what is done in a `with` block is one commit at its end, or nothing if the block raises.

    with notes.edit("post") as post:
        post["likes"].increment()
        post["text"].insert(0, "Hello")
        post["title"] = "x"

Each step is tried at once on what the document was at the beginning, so what can't be done is an error where it stands. At the
end the steps are applied to what the document is by then. Positions in a text or list mean the places that they meant at the
beginning, whatever others typed meanwhile.
"""

from crdtdb.database.editing.proxies import DocumentEdit, FieldEdit, ObjectEdit
from crdtdb.database.editing.session import Session

__all__ = ["DocumentEdit", "FieldEdit", "ObjectEdit", "Session"]
