"""A process that writes until it is killed, and says what was acknowledged. Run by test_sigkill.py."""

import sys
from itertools import count
from threading import Lock, Thread

import crdtdb
from crdtdb.documents import Rev, put, view
from crdtdb.store import Store


def replace(store: Store, doc_id: str, rev: Rev | None, body: bytes) -> None:
    store.write("notes", doc_id, lambda state, write: put(state, write, rev, body))


def main(path: str, run: str) -> None:
    store = Store.open(path)
    guard = Lock()

    def write(thread: int) -> None:
        for n in count():
            doc_id = f"{run}-{thread}-{n // 3}"
            record = store.read("notes", doc_id)
            shown = view(record.state).winner if record is not None else None
            rev = shown.rev if shown is not None else None
            body = b'{"n":%d,"pad":"%b"}' % (n, b"x" * (n % 700))
            replace(store, doc_id, rev, body)
            with guard:
                sys.stdout.write(f"{doc_id} {n}\n")
                sys.stdout.flush()

    def type_on() -> None:
        """Type into one text that all runs share; the counter beside it says how often."""
        texts = crdtdb.Database(store).collection("texts")
        texts.put_if_absent("shared", {"body": crdtdb.Text(), "typed": crdtdb.Counter()})
        for n in count():
            with texts.edit("shared") as document:
                document["body"].append(f"{run}.{n};")
                document["typed"].increment()
            with guard:
                sys.stdout.write(f"typed {run}.{n}\n")
                sys.stdout.flush()

    Thread(target=type_on, daemon=True).start()
    for thread in range(2):
        Thread(target=write, args=(thread,), daemon=True).start()
    Thread(target=write, args=(3,)).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
