"""Libraries that were written for CouchDB, each on an ordinary day against a node. The docs have a table of what they did."""

from __future__ import annotations

import importlib.metadata
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from crdtdb.cli.demo.cluster import DemoCluster
from crdtdb.security.authority import issue
from tests.interop.stories import HERE, need_node, tell

couchdb3 = pytest.importorskip("couchdb3", reason="couchdb3 isn't there: `make test` installs it")
pytestmark = pytest.mark.processes

TABLE = Path(__file__).parents[2] / "docs" / "reference" / "client-libraries.md"
PASSWORD = "a-long-password"
MODULES = HERE / "node_modules"


class Day(NamedTuple):
    """What a library did on its day."""

    library: str
    registry: str
    version: str
    did: list[str]

    def row(self) -> str:
        return f"| {self.library} | {self.registry} | {self.version} | {', '.join(self.did)} |"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoCluster]:
    need_node()
    if not (MODULES / "@cloudant").is_dir():
        pytest.skip("@cloudant/couchbackup isn't in tests/interop/node_modules: `make test` installs it by npm")
    with DemoCluster(tmp_path_factory.mktemp("clients"), ("n1",), flags=("--logins",)) as made:
        issue(made.certs, "admin", "root")
        made.start_all()
        where = ("--url", made.url("n1"), "--certs", str(made.certs), "--as", "root")
        run([sys.executable, "-m", "crdtdb", "user", "add", "mia", "--password-stdin", *where], PASSWORD)
        yield made


def run(command: list[str], given: str = "", **environment: str) -> str:
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def root_of(cluster: DemoCluster) -> httpx.Client:
    return httpx.Client(base_url=cluster.url("n1"), verify=tls(cluster, "root"))


def tls(cluster: DemoCluster, who: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=cluster.certs / "ca.pem")
    if who is not None:
        context.load_cert_chain(cluster.certs / f"{who}.pem", cluster.certs / f"{who}.key")
    return context


def make(client: httpx.Client, *names: str) -> None:
    """Make databases of which mia is an admin."""
    for name in names:
        assert client.put(f"/{name}").status_code == 201
        everything = {"names": ["mia"], "roles": []}
        answer = client.put(f"/{name}/_security", json={"admins": everything, "members": everything})
        assert answer.status_code == 200


def version_of(module: str) -> str:
    return str(json.loads((MODULES / module / "package.json").read_text())["version"])


def nano_day(cluster: DemoCluster) -> Day:
    """As told by `js/stories.js`."""
    tell(cluster, "nano")
    did = ["databases", "documents", "conflicts", "attachments", "`_find`", "`_changes`", "certificates by undici"]
    return Day("nano", "npm", version_of("nano"), did)


def couchbackup_day(cluster: DemoCluster) -> Day:
    """Back a database up, with its conflicts and attachments, and restore it elsewhere."""
    host = cluster.url("n1").removeprefix("https://")
    bin_of = partial(Path.joinpath, MODULES / ".bin")
    with root_of(cluster) as client:
        make(client, "kept", "restored")
        docs: list[dict[str, Any]] = [{"_id": f"d{n:04}", "n": n} for n in range(1_200)]
        assert client.post("/kept/_bulk_docs", json={"docs": docs}).status_code == 201
        conflict = [{"_id": "c", "_revisions": {"start": 2, "ids": [one, "r"]}, "who": one} for one in ("a", "b")]
        client.post("/kept/_bulk_docs", json={"docs": conflict, "new_edits": False})
        client.put("/kept/file/a.txt", content=b"text " * 100, headers={"content-type": "text/plain"})
        client.put("/kept/_design/app", json={"views": {"all": {"map": "function (doc) { emit(doc._id) }"}}})
        url = f"https://mia:{PASSWORD}@{host}"
        known = {"NODE_EXTRA_CA_CERTS": str(cluster.certs / "ca.pem")}
        node = need_node()
        backup = run([node, str(bin_of("couchbackup")), "--url", url, "--db", "kept", "-a", "-q"], **known)
        run([node, str(bin_of("couchrestore")), "--url", url, "--db", "restored", "-a", "-q"], backup, **known)

        def leaves(name: str) -> dict[str, Any]:
            rows = client.get(f"/{name}/_changes?style=all_docs").json()["results"]
            return {row["id"]: sorted(one["rev"] for one in row["changes"]) for row in rows}

        assert leaves("restored") == leaves("kept")
        assert leaves("restored")["c"] == ["2-a", "2-b"]
        assert client.get("/restored/file/a.txt").content == b"text " * 100
    did = [
        "backup and restore of 1,200 documents with revisions, conflicts, attachments and designs",
        "gzip",
        "sessions",
    ]
    return Day("@cloudant/couchbackup", "npm", version_of("@cloudant/couchbackup"), did)


def couchdb3_day(cluster: DemoCluster) -> Day:
    with root_of(cluster) as root:
        make(root, "things")
    with httpx.Client(base_url=cluster.url("n1"), verify=tls(cluster)) as session:
        server = couchdb3.Server(cluster.url("n1"), user="mia", password=PASSWORD, session=session)
        assert server.up()
        assert "things" in server.all_dbs()
        database = server["things"]
        doc_id, _, rev = database.save({"_id": "a", "n": 1, "kind": "x"})
        document = database.get(doc_id)
        assert (document["n"], document["_rev"]) == (1, rev)
        database.save({**document, "n": 2})
        with pytest.raises(couchdb3.exceptions.ConflictError):
            database.save({**document, "n": 3})
        results = database.bulk_docs([{"_id": f"b{n}", "n": n, "kind": "y"} for n in range(30)])
        assert all(one["ok"] for one in results)
        database.save_index({"fields": ["n"]}, name="by-n")
        found = database.find({"n": {"$gte": 25}}, sort=[{"n": "asc"}])["docs"]
        assert [one["n"] for one in found] == [25, 26, 27, 28, 29]
        mapped = "function (doc) { emit(doc.kind, doc.n); }"
        database.put_design("app", views={"kinds": {"map": mapped, "reduce": "_sum"}})
        rows = database.view("app", "kinds", group=True)["rows"]
        assert [(row["key"], row["value"]) for row in rows] == [("x", 2), ("y", 435)]
        _, _, rev = database.put_attachment(
            "a", "f.txt", content=b"hello", content_type="text/plain", rev=database.rev("a")
        )
        assert database.get_attachment("a", "f.txt").content == b"hello"
        assert {row["id"] for row in database.changes()["results"]} >= {"a", "b0", "_design/app"}
        database.copy("b0", "copied")
        assert database.get("copied")["n"] == 0
        assert database.delete("a", rev)
        with pytest.raises(couchdb3.exceptions.NotFoundError):
            database.get("a", check=True)
    did = [
        "sessions",
        "documents",
        "conflicts",
        "`_bulk_docs`",
        "`_find`",
        "views",
        "attachments",
        "`_changes`",
        "copies",
    ]
    return Day("couchdb3", "PyPI", importlib.metadata.version("couchdb3"), did)


DAYS: dict[str, Callable[[DemoCluster], Day]] = {
    "nano": nano_day,
    "@cloudant/couchbackup": couchbackup_day,
    "couchdb3": couchdb3_day,
}
_days: dict[str, Day] = {}


def day_of(cluster: DemoCluster, name: str) -> Day:
    if name not in _days:
        _days[name] = DAYS[name](cluster)
    return _days[name]


@pytest.mark.parametrize("name", DAYS)
def test_a_day_of_a_library(cluster: DemoCluster, name: str) -> None:
    assert day_of(cluster, name).did


def test_the_table_in_the_docs_is_what_the_libraries_did(cluster: DemoCluster) -> None:
    """With CRDTDB_WRITE_TABLES the table is written."""
    rows = "\n".join(day_of(cluster, name).row() for name in DAYS)
    head, _, _ = TABLE.read_text().partition("|---|---|---|---|\n")
    text = f"{head}|---|---|---|---|\n{rows}\n"
    if os.environ.get("CRDTDB_WRITE_TABLES"):
        TABLE.write_text(text)
    assert TABLE.read_text() == text


def test_a_session_takes_the_names_that_clients_send(cluster: DemoCluster) -> None:
    with httpx.Client(base_url=cluster.url("n1"), verify=tls(cluster)) as client:
        for member in ("name", "username"):
            said = {member: "mia", "password": PASSWORD}
            for answer in (client.post("/_session", json=said), client.post("/_session", data=said)):
                assert answer.json()["name"] == "mia"
