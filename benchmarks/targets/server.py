"""Servers that speak CouchDB's API: crdtdb's nodes, pouchdb-server, a CouchDB, somebody's own node."""

from __future__ import annotations

import json
import secrets
import ssl
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection, RemoteDisconnected
from itertools import islice
from pathlib import Path
from threading import local
from typing import Any
from urllib.parse import quote, urlsplit

from benchmarks.documents import Document
from benchmarks.results import Durability
from benchmarks.targets.base import Ability, Session, Target, Timed, Unavailable, abilities_of
from benchmarks.targets.embedded import BATCH
from benchmarks.targets.pouch import MODULES, node_of
from crdtdb.cli.demo.cluster import DemoCluster, free_ports
from crdtdb.security.tls import Credentials

CONNECTIONS = 16
_STARTING_SECONDS = 20
_DIGEST = "0" * 32


class ServerSession(Session):
    """One database of a server, over several connections that are kept open."""

    def __init__(self, url: str, database: str, tls: ssl.SSLContext | None) -> None:
        self.url, self.database, self.tls = url, database, tls
        self._parts, self._mine = urlsplit(url), local()
        self._pool = ThreadPoolExecutor(CONNECTIONS)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request on this thread's connection. Raises HTTPException for an answer that isn't one of success."""
        try:
            return self._ask(method, path, body)
        except RemoteDisconnected:  # servers close connections on which nothing came for some seconds
            self._mine.connection = None
            return self._ask(method, path, body)

    def _connection(self) -> HTTPConnection:
        connection: HTTPConnection | None = getattr(self._mine, "connection", None)
        if connection is None:
            host, port = self._parts.hostname or "", self._parts.port
            connection = (
                HTTPSConnection(host, port, context=self.tls) if self.tls is not None else HTTPConnection(host, port)
            )
            self._mine.connection = connection
        return connection

    def _ask(self, method: str, path: str, body: Any) -> Any:
        connection = self._connection()
        headers = {"content-type": "application/json"}
        if self._parts.username is not None:
            pair = f"{self._parts.username}:{self._parts.password}".encode()
            headers["authorization"] = f"Basic {b64encode(pair).decode()}"
        sent = json.dumps(body).encode() if body is not None else None
        connection.request(method, path, sent, headers)
        answer = connection.getresponse()
        read = answer.read()
        if answer.status >= 300:
            raise HTTPException(f"{method} {path}: {answer.status} {read[:200]!r}")
        return json.loads(read)

    def _document(self, doc_id: str) -> str:
        return f"/{self.database}/{quote(doc_id, safe='')}"

    def put(self, doc_id: str, document: Document) -> None:
        self.ask("PUT", self._document(doc_id), document)

    def get(self, doc_id: str) -> Document:
        found: Document = self.ask("GET", self._document(doc_id))
        return found

    def update(self, doc_id: str) -> None:
        found = self.get(doc_id)
        self.ask("PUT", self._document(doc_id), {**found, "touched": found.get("touched", 0) + 1})

    def bulk(self, documents: Sequence[tuple[str, Document]]) -> None:
        self._bulk([{"_id": doc_id, **document} for doc_id, document in documents])

    def _bulk(self, documents: list[Document], *, new_edits: bool = True) -> None:
        body = {"docs": documents, "new_edits": new_edits}
        for one in self.ask("POST", f"/{self.database}/_bulk_docs", body):
            if "error" in one:
                raise HTTPException(f"{one}")

    def conflict(self, doc_id: str, mine: Document, theirs: Document) -> None:
        self.put(doc_id, mine)
        revisions = {"start": 1, "ids": [_DIGEST]}
        self._bulk([{"_id": doc_id, "_rev": f"1-{_DIGEST}", "_revisions": revisions, **theirs}], new_edits=False)

    def siblings(self, doc_id: str) -> list[Document]:
        winner = self.ask("GET", self._document(doc_id) + "?conflicts=true")
        others = [self.ask("GET", f"{self._document(doc_id)}?rev={rev}") for rev in winner["_conflicts"]]
        return [winner, *others]

    def resolve(self, doc_id: str, body: Document) -> None:
        winner = self.ask("GET", self._document(doc_id) + "?conflicts=true")
        losers = [{"_id": doc_id, "_rev": rev, "_deleted": True} for rev in winner["_conflicts"]]
        self._bulk([{"_id": doc_id, "_rev": winner["_rev"], **body}, *losers])

    def changes(self) -> int:
        return len(self.ask("GET", f"/{self.database}/_changes?include_docs=true")["results"])

    def load(self, path: str) -> None:
        with Path(path).open("rb") as file:
            while lines := list(islice(file, BATCH)):
                self._bulk([json.loads(line) for line in lines])

    def measure(self, ability: Ability, calls: Sequence[tuple[Any, ...]]) -> Timed:
        """Time the calls, made over all connections at once."""
        act, clock = getattr(self, ability), time.perf_counter

        def timed(call: tuple[Any, ...]) -> float:
            before = clock()
            act(*call)
            return clock() - before

        began = clock()
        each = list(self._pool.map(timed, calls))
        return Timed(clock() - began, each)

    def close(self) -> None:
        self._pool.shutdown()


class Server(Target):
    """A server that runs somewhere; its databases are named `bench-…`, and are deleted afterwards."""

    abilities = abilities_of(ServerSession)
    most = 1_000

    def __init__(self, name: str, url: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.name, self.url, self.tls = name, url, tls
        self.durability: Durability = "fsync"

    @contextmanager
    def running(self, place: Path) -> Iterator[None]:  # noqa: ARG002
        """Run the server, if it isn't running anyway. Raises Unavailable."""
        yield

    @contextmanager
    def open(self, place: Path) -> Iterator[ServerSession]:  # noqa: ARG002
        session = ServerSession(self.url, f"bench-{secrets.token_hex(6)}", self.tls)
        session.ask("PUT", f"/{session.database}")
        try:
            yield session
        finally:
            session.ask("DELETE", f"/{session.database}")
            session.close()


class Nodes(Server):
    """crdtdb's nodes on loopback, started for the run; requests go to the first of them."""

    def __init__(self, number: int) -> None:
        super().__init__(f"crdtdb, {number} node{'s' if number > 1 else ''}, HTTPS")
        self._number = number
        self.cluster: DemoCluster | None = None

    @contextmanager
    def running(self, place: Path) -> Iterator[None]:
        names = [f"n{number + 1}" for number in range(self._number)]
        with DemoCluster(place, names) as cluster:
            cluster.start_all()
            self.cluster, self.url = cluster, cluster.url("n1")
            self.tls = Credentials(cluster.certs, "ada").http_client()
            yield
        self.cluster = None


class PouchServer(Server):
    """pouchdb-server: PouchDB behind express, plain HTTP."""

    most = 300

    def __init__(self) -> None:
        super().__init__("pouchdb-server, HTTP")
        self.durability = "buffered"

    @contextmanager
    def running(self, place: Path) -> Iterator[None]:
        node, (port,) = node_of("pouchdb-server"), free_ports(1)
        command = [
            node,
            str(MODULES / "pouchdb-server" / "bin" / "pouchdb-server"),
            "--port",
            str(port),
            "--no-stdout-logs",
        ]
        with subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                self.url = f"http://127.0.0.1:{port}"
                _wait_for(self.url)
                yield
            finally:
                process.terminate()
                process.wait(_STARTING_SECONDS)


def _wait_for(url: str) -> None:
    until = time.monotonic() + _STARTING_SECONDS
    while True:
        session = ServerSession(url, "", None)
        try:
            session.ask("GET", "/")
        except OSError as error:
            if time.monotonic() > until:
                raise Unavailable(f"{url} doesn't answer: {error}") from error
            time.sleep(0.1)
        else:
            return
        finally:
            session.close()
