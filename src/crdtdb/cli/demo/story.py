"""The story of the demo, step by step. Any mismatch raises ConvergenceError."""

from __future__ import annotations

from pathlib import Path
from threading import Thread
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from crdtdb.cli.demo.cluster import CLIENT, DemoCluster, wait_until
from crdtdb.cli.demo.data import documents
from crdtdb.cli.demo.fields import COLLECTION, FieldStory
from crdtdb.cli.render import conflict_table, members_table, short, table
from crdtdb.clock import monotonic_seconds
from crdtdb.errors import ConflictError, ConvergenceError, CrdtdbError

_BATCH = 500


class Story:
    """Plays on a cluster, tells on a console."""

    def __init__(self, cluster: DemoCluster, console: Console) -> None:
        self._cluster, self._console = cluster, console
        self._began = monotonic_seconds()
        self._collections: list[str] = []
        self._fields = FieldStory(cluster)

    def play(self) -> None:
        """Everything, from three empty stores to the proof."""
        self._start()
        self._import()
        self._cut()
        acknowledged = self._write_and_kill()
        self._heal(acknowledged)
        self._resolve()
        self._prove()

    def _start(self) -> None:
        self._step("Three nodes start, each with its own store and certificate")
        self._cluster.start_all()
        names = self._cluster.names
        if not wait_until(lambda: all(self._connected(name) for name in names), 20):
            raise ConvergenceError("the nodes don't find each other: their logs say why")
        self._console.print(members_table(self._cluster.ask("n1", "GET", "_cluster")["members"]))
        self._done("meshed over mutual TLS 1.3")

    def _connected(self, name: str) -> bool:
        members = self._cluster.ask(name, "GET", "_cluster")["members"]
        return len(members) == len(self._cluster.names) and all(one["connected"] for one in members)

    def _import(self) -> None:
        data = documents()
        self._collections = list(data)
        total = sum(map(len, data.values()))
        self._step(f"{total:,} documents go in through n1")
        began = monotonic_seconds()
        with self._progress(total) as bar:
            for name, rows in data.items():
                self._cluster.ask("n1", "PUT", name)
                for at in range(0, total, _BATCH):
                    batch = rows[at : at + _BATCH]
                    if batch:
                        self._check(self._cluster.ask("n1", "POST", name, "_bulk_docs", body={"docs": batch}))
                        bar.advance(bar.task_ids[0], len(batch))
        written = monotonic_seconds() - began
        self._fields.begin()
        self._collections.append(COLLECTION)
        self._cluster.wait_equal(self._collections)
        everywhere = monotonic_seconds() - began
        self._done(
            f"written in {written:.1f} s ({total / written:,.0f} a second, synced to disk), on all three nodes after "
            f"{everywhere:.1f} s"
        )

    def _cut(self) -> None:
        self._step("The network is cut: n1 and n2 on one side, n3 on the other")
        self._cluster.cables.cut({"n3"})
        euro, yen = self._read("n1", "currencies", "EUR"), self._read("n1", "currencies", "JPY")
        welsh, pound = self._read("n1", "languages", "cym"), self._read("n1", "currencies", "GBP")
        edits: list[tuple[str, str, str, dict[str, Any] | None]] = [
            ("n1", "currencies", "n1 calls EUR “Euro (€)”", {**euro, "name": "Euro (€)"}),
            ("n3", "currencies", "n3 calls EUR “Single currency”", {**euro, "name": "Single currency"}),
            ("n1", "currencies", "n1 gives JPY its sign", {**yen, "sign": "¥"}),
            ("n3", "currencies", "n3 gives JPY the same sign", {**yen, "sign": "¥"}),
            ("n2", "languages", "n2 deletes cym", None),
            ("n3", "languages", "n3 gives cym its own name", {**welsh, "native": "Cymraeg"}),
            ("n3", "currencies", "n3 gives GBP its sign", {**pound, "sign": "£"}),
        ]
        for node, collection, what, body in edits:
            if body is None:
                self._cluster.ask(node, "DELETE", collection, welsh["_id"], rev=welsh["_rev"])
            else:
                self._cluster.ask(node, "PUT", collection, body["_id"], body=body)
            self._console.print(f"  {what}")
        for node in ("n1", "n3"):  # n3 last: of two writes of a register the later stays
            self._fields.edit(node)
            self._console.print(f"  {node} edits a field of every type in {COLLECTION}/trip, the text among them")
        self._done("both sides read and write")

    def _write_and_kill(self) -> dict[str, str]:
        self._step("n2 is killed with SIGKILL in the middle of writing")
        acknowledged: dict[str, str] = {}
        began = monotonic_seconds()

        def write() -> None:
            try:
                for number in range(1_000_000):
                    doc_id = f"demo-{number:05}"
                    written = self._cluster.ask("n2", "PUT", "languages", doc_id, body={"number": number})
                    acknowledged[doc_id] = written["rev"]
            except CrdtdbError:
                pass  # the kill

        writer = Thread(target=write)
        writer.start()
        wait_until(lambda: len(acknowledged) >= 150 or monotonic_seconds() - began > 10, 15)
        self._cluster.kill("n2")
        writer.join(20)
        self._console.print(f"  {len(acknowledged)} writes were acknowledged before it died")
        self._cluster.start("n2", ("n1",))
        self._cluster.wait_ready("n2")
        self._done("n2 is back, as a new actor over its old store")
        return acknowledged

    def _heal(self, acknowledged: dict[str, str]) -> None:
        self._step("The network heals")
        began = monotonic_seconds()
        self._cluster.cables.mend()
        self._cluster.wait_equal(self._collections)
        took = monotonic_seconds() - began
        for name in self._cluster.names:
            rows = self._cluster.ask(name, "POST", "languages", "_all_docs", body={"keys": list(acknowledged)})["rows"]
            lost = [row["key"] for row in rows if "value" not in row or row["value"]["rev"] != acknowledged[row["id"]]]
            if lost:
                raise ConvergenceError(f"{name} lost acknowledged writes: {lost[:5]}")
        self._console.print(f"  all {len(acknowledged)} acknowledged writes are on all three nodes")
        merged = [("currencies", "JPY", "the same edit twice"), ("currencies", "GBP", "one edit")]
        merged += [("languages", "cym", "edited against deleted: the edit lives")]
        rows = []
        for collection, doc_id, why in merged:
            found = [
                self._cluster.ask(name, "GET", collection, doc_id, conflicts="true") for name in self._cluster.names
            ]
            if any(one != found[0] or "_conflicts" in one for one in found):
                raise ConvergenceError(f"{collection}/{doc_id} should have merged: {found}")
            rows.append((doc_id, short(found[0]["_rev"]), Text(why)))
        self._console.print(table("merged by themselves", "document", "rev", "", rows=rows))
        self._console.print(self._fields.outcome())
        self._done(f"the same on all three nodes {took:.1f} s after the cables were mended")

    def _resolve(self) -> None:
        self._step("What can't merge stays side by side")
        for collection in self._collections:
            for row in self._cluster.ask("n2", "GET", collection, "_conflicts")["rows"]:
                self._console.print(conflict_table(f"{collection}/{row['id']} is a conflict", row["siblings"]))
                winner = row["siblings"][0]["body"]
                self._cluster.ask("n2", "POST", collection, row["id"], "_resolve", body={**winner, "name": "Euro"})
                self._console.print(f"  resolved through n2: {row['id']} is “Euro”")
        if not wait_until(lambda: not any(self._conflicts(name) for name in self._cluster.names), 20):
            raise ConvergenceError("a conflict is still there after it was resolved")
        self._done("no conflict left on any node")

    def _conflicts(self, name: str) -> int:
        return sum(len(self._cluster.ask(name, "GET", one, "_conflicts")["rows"]) for one in self._collections)

    def _prove(self) -> None:
        self._step("The proof: a digest of all that each node holds")
        self._cluster.wait_equal(self._collections)
        digests = self._cluster.digests(self._collections)
        rows = []
        for collection, found in digests.items():
            counts = {self._cluster.ask(name, "GET", collection)["doc_count"] for name in self._cluster.names}
            if len(set(found.values())) != 1 or len(counts) != 1:
                raise ConvergenceError(f"{collection} differs: {found}, {counts} documents")
            rows.append((collection, f"{counts.pop():,}", *(digest[:12] for digest in found.values())))
        self._console.print(table(None, "collection", "documents", *self._cluster.names, rows=rows))
        self._done(f"equal. {monotonic_seconds() - self._began:.0f} s in all")

    def _read(self, node: str, collection: str, doc_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._cluster.ask(node, "GET", collection, doc_id)
        return found

    def _check(self, results: list[dict[str, Any]]) -> None:
        refused = [one for one in results if not one.get("ok")]
        if refused:
            raise ConflictError(refused[0]["id"], None, ())

    def _step(self, what: str) -> None:
        self._console.print(f"\n[bold]{what}[/]")

    def _done(self, what: str) -> None:
        self._console.print(f"  [green]✓[/] {what}")

    def _progress(self, total: int) -> Progress:
        bar = Progress(
            TextColumn("  "),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        bar.add_task("", total=total)
        return bar


def what_to_try(cluster: DemoCluster) -> str:
    """Return commands for a cluster that was kept."""
    as_ada = f"--certs {_short_path(cluster.certs)} --as {CLIENT}"
    return "\n".join(
        [
            f"  crdtdb status {as_ada} --url {cluster.url('n1')}",
            f"  crdtdb get currencies EUR {as_ada} --url {cluster.url('n2')}",
            f"  crdtdb why {COLLECTION} trip {as_ada} --url {cluster.url('n3')}",
            f'  crdtdb put notes a \'{{"title": "x"}}\' --create {as_ada} --url {cluster.url("n3")}',
            f"  crdtdb conflicts currencies {as_ada} --url {cluster.url('n1')}",
            f"  crdtdb export currencies {as_ada} --url {cluster.url('n1')}",
        ]
    )


def _short_path(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
