"""The commands, as a person types them: what they print, what they say when it goes wrong, and their exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crdtdb.cli.demo.cluster import DemoCluster
from crdtdb.cli.main import _COMMANDS

pytestmark = pytest.mark.processes

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("CRDTDB_")} | {"COLUMNS": "80"}


def run(
    *words: str, cwd: Path | None = None, given: str = "", env: dict[str, str] | None = None
) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "crdtdb", *words],
        cwd=cwd,
        input=given,
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **(env or {})},
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def heed_interrupts() -> None:
    """Undo what a shell does to jobs in the background: they and their children ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoCluster]:
    with DemoCluster(tmp_path_factory.mktemp("cluster"), ("n1", "n2")) as made:
        made.start_all()
        yield made


@pytest.fixture
def ada(cluster: DemoCluster) -> dict[str, str]:
    return {"CRDTDB_URL": cluster.url("n1"), "CRDTDB_CERTS": str(cluster.certs), "CRDTDB_AS": "ada"}


@pytest.mark.parametrize("command", ["", *_COMMANDS, "cert authority", "cert node", "cert client"])
def test_help_has_an_example_and_fits_a_terminal(command: str) -> None:
    code, out, _ = run(*command.split(), "--help")
    assert code == 0
    assert "Example:" in out or "Begin with:" in out
    assert max(len(line) for line in out.splitlines()) <= 80, out


def test_certificates(tmp_path: Path) -> None:
    code, out, _ = run("cert", "authority", cwd=tmp_path)
    assert (code, "made the authority of cluster" in out) == (0, True)
    assert run("cert", "authority", cwd=tmp_path)[0] == 6
    assert run("cert", "node", "n1", "--host", "127.0.0.1", cwd=tmp_path)[0] == 0
    code, _, err = run("cert", "node", "n1", cwd=tmp_path)
    assert (code, "exists: `crdtdb cert rotate n1` makes a new one" in err) == (6, True)
    code, _, err = run("cert", "client", "a/b", cwd=tmp_path)
    assert (code, "can't be a name" in err) == (2, True)
    code, _, err = run("cert", "client", "ada", "--dir", "nowhere", cwd=tmp_path)
    assert (code, "can't read the certificate nowhere/ca.pem" in err) == (6, True)
    assert (tmp_path / "certs" / "n1.key").stat().st_mode & 0o777 == 0o600


def test_fields(cluster: DemoCluster, ada: dict[str, str]) -> None:
    """Declared through one node, edited through both at once, explained within 80 columns."""
    other = {**ada, "CRDTDB_URL": cluster.url("n2")}
    code, out, _ = run("schema", "posts", '{"likes": "counter", "body": "text", "tags": "set"}', "--create", env=ada)
    assert (code, json.loads(out)["likes"]) == (0, "counter")
    code, _, err = run("schema", "posts", '{"likes": "set"}', env=ada)
    assert (code, "declared as a counter already" in err) == (2, True)
    assert run("put", "posts", "p", '{"title": "x", "likes": 1, "body": "hello", "tags": ["a"]}', env=ada)[0] == 0
    cluster.wait_equal(["posts"])
    assert json.loads(run("schema", "posts", env=other)[1])["body"] == "text"
    typed = '[{"path": "body", "operation": "insert", "at": 0, "text": "Oh, "}, {"path": "likes", "operation": "increment"}]'
    assert run("edit", "posts", "p", typed, env=ada)[0] == 0
    code, _, err = run("edit", "posts", "p", '{"path": "body", "operation": "append", "text": "!"}', env=other)
    assert (code, err) == (0, "")
    cluster.wait_equal(["posts"])
    for one in (ada, other):
        found = json.loads(run("get", "posts", "p", "--json", env=one)[1])
        assert (found["body"], found["likes"]) == ("Oh, hello!", 2)
    code, _, err = run("edit", "posts", "p", '{"path": "likes", "operation": "enable"}', env=ada)
    assert (code, "has no operation 'enable'" in err) == (2, True)
    code, _, err = run("edit", "posts", "p", "7", env=ada)
    assert (code, "an operation is an object" in err) == (2, True)
    assert run("edit", "posts", "nothing", "[]", env=ada)[0] == 3
    assert run("edit", "posts", "p", "[]", "--rev", "1-abc", env=ada)[0] == 4
    code, out, _ = run("why", "posts", "p", env=ada)
    assert code == 0
    assert max(len(line) for line in out.splitlines()) <= 80, out
    for word in ("posts/p", "one value", "versions", "clocks", "likes  counter", "n1:", "updates in"):
        assert word in out, word
    assert json.loads(run("why", "posts", "p", "--json", env=other)[1])["value"]["likes"] == 2
    assert run("why", "posts", "nothing", env=ada)[0] == 3


def test_documents(cluster: DemoCluster, ada: dict[str, str]) -> None:
    code, _, err = run("put", "notes", "a", "{}", env=ada)
    assert (code, "--create makes it" in err) == (3, True)
    code, out, _ = run("put", "notes", "a", '{"title": "x"}', "--create", env=ada)
    assert code == 0
    rev = out.split()[1]
    code, out, _ = run("get", "notes", "a", "--json", env=ada)
    assert json.loads(out) == {"_id": "a", "_rev": rev, "title": "x"}
    code, _, err = run("put", "notes", "a", '{"title": "y"}', env=ada)
    assert (code, "notes/a is there already: --rev names the revision to replace" in err) == (4, True)
    code, _, err = run("put", "notes", "a", '{"title": "y"}', "--rev", "1-abc", env=ada)
    assert (code, "isn't the current one" in err) == (4, True)
    code, _, err = run("get", "notes", "\udcff", env=ada)
    assert (code, "isn't UTF-8" in err) == (2, True)
    code, out, _ = run("put", "notes", "a", "-", "--rev", rev, given='{"title": "y"}', env=ada)
    assert code == 0
    code, out, _ = run("get", "notes", "a", "--rev", rev, env=ada)
    assert '"title": "x"' in out
    code, _, err = run("get", "notes", "never", env=ada)
    assert (code, err) == (3, "crdtdb: notes/never: missing\n")
    assert run("get", "nothing", "a", env=ada)[0] == 3
    code, _, err = run("put", "notes", "b", "{title}", env=ada)
    assert (code, "not JSON" in err) == (2, True)
    code, _, err = run("put", "notes", "b", "@nowhere.json", env=ada)
    assert (code, "can't read nowhere.json" in err) == (2, True)
    current = json.loads(run("get", "notes", "a", "--json", env=ada)[1])["_rev"]
    assert run("delete", "notes", "a", "--rev", current, env=ada)[0] == 0
    assert run("get", "notes", "a", env=ada)[0] == 3


def test_conflicts_are_shown_and_resolved(cluster: DemoCluster, ada: dict[str, str]) -> None:
    cluster.ask("n1", "PUT", "two")
    cluster.wait_equal(["two"])
    cluster.cables.cut({"n2"})
    cluster.ask("n1", "PUT", "two", "a", body={"from": "n1"})
    cluster.ask("n2", "PUT", "two", "a", body={"from": "n2"})
    assert run("conflicts", "two", env=ada)[1] == "no conflicts\n"
    cluster.cables.mend()
    cluster.wait_equal(["two"])
    code, out, _ = run("conflicts", "two", env=ada)
    assert code == 0
    assert all(word in out for word in ("winner", "n1", "n2", '{"from": "n2"}'))
    (row,) = json.loads(run("conflicts", "two", "--json", env=ada)[1])
    loser = row["siblings"][1]
    assert run("resolve", "two", "a", env=ada)[0] == 2
    code, _, err = run("resolve", "two", "a", "--rev", "9-0", env=ada)
    assert (code, "none of the siblings" in err) == (2, True)
    code, out, _ = run("resolve", "two", "a", "--rev", loser["rev"], env=ada)
    assert (code, '{"from": "n2"}' in out, '{"from": "n1"}' in out) == (0, True, True)  # what it replaces
    assert json.loads(run("get", "two", "a", "--json", env=ada)[1])["from"] == loser["body"]["from"]
    cluster.wait_equal(["two"])
    assert cluster.ask("n2", "GET", "two", "_conflicts") == {"rows": []}


def test_a_resolution_replaces_what_was_seen(cluster: DemoCluster, ada: dict[str, str]) -> None:
    cluster.ask("n1", "PUT", "seen")
    revisions = [{"_id": "a", "_rev": f"1-{one}", "from": one} for one in ("aa", "bb", "cc", "dd")]
    cluster.ask("n1", "POST", "seen", "_bulk_docs", body={"docs": revisions, "new_edits": False})
    code, out, _ = run("resolve", "seen", "a", '{"from": "two"}', "--seen", "1-aa", "--seen", "1-b…", env=ada)
    assert (code, '{"from": "cc"}' in out) == (0, True)
    (row,) = json.loads(run("conflicts", "seen", "--json", env=ada)[1])
    assert sorted(one["body"]["from"] for one in row["siblings"]) == ["cc", "dd", "two"]
    assert run("resolve", "seen", "a", '{"from": "x"}', "--seen", "1-aa", env=ada)[0] == 4
    assert run("resolve", "seen", "a", '{"from": "x"}', "--seen", "1-…", env=ada)[0] == 2
    assert run("resolve", "seen", "a", '{"from": "all"}', env=ada)[0] == 0
    assert run("conflicts", "seen", env=ada)[1] == "no conflicts\n"


def test_import_and_export(ada: dict[str, str], tmp_path: Path) -> None:
    lines = [json.dumps({"_id": f"d{n:04}", "n": n, "text": "é" * (n % 7)}) for n in range(1203)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n\n")
    code, out, _ = run("import", "many", "in.jsonl", cwd=tmp_path, env=ada)
    assert (code, out) == (0, "1,203 documents written\n")
    code, out, _ = run("import", "many", given=lines[0], env=ada)
    assert (code, out) == (0, "0 documents written, 1 left as they are\n")
    code, out, _ = run("import", "many", "--update", "--json", given='{"_id": "d0000", "n": "new"}\n', env=ada)
    assert json.loads(out) == {"written": 1, "existing": 0, "refused": 0}
    code, out, _ = run("export", "many", "out.jsonl", cwd=tmp_path, env=ada)
    assert (code, out) == (0, "1,203 documents written to out.jsonl\n")
    exported = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert exported == [{"_id": "d0000", "n": "new"}, *map(json.loads, lines[1:])]
    assert run("export", "many", env=ada)[1] == (tmp_path / "out.jsonl").read_text()
    assert [file.name for file in tmp_path.iterdir() if "partial" in file.name] == []
    code, _, err = run("import", "many", given="{}\n", env=ada)
    assert (code, "line 1 isn't an object with an `_id`" in err) == (2, True)
    code, _, err = run("import", "many", given='{"_id": "ok"}\n{"_id": "_no"}\n', env=ada)
    assert (code, "Only reserved document ids" in err, "1 documents were refused" in err) == (
        2,
        True,
        True,
    )


def test_status_goes_on_until_it_is_interrupted(cluster: DemoCluster, ada: dict[str, str]) -> None:
    assert run("status", "--watch", "--json", env=ada)[0] == 2
    environment = {**os.environ, **ada, "COLUMNS": "80"}
    process = subprocess.Popen(
        [sys.executable, "-m", "crdtdb", "status", "--watch"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,
    )
    time.sleep(3)  # into a pipe the table is written when it ends: there is nothing to wait for
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 130, err
    assert b"writes stable" in out
    assert b"Traceback" not in err


def test_status(cluster: DemoCluster, ada: dict[str, str]) -> None:
    code, out, _ = run("status", env=ada)
    assert code == 0
    assert "ready" in out
    assert "n2" in out
    assert json.loads(run("status", "--json", env=ada)[1])["name"] == "n1"


def test_a_node_that_cannot_be_reached_or_trusted(cluster: DemoCluster, ada: dict[str, str], tmp_path: Path) -> None:
    code, _, err = run("status", env={**ada, "CRDTDB_URL": "https://127.0.0.1:1"})
    assert (code, "can't reach https://127.0.0.1:1" in err) == (5, True)
    code, _, err = run("status", env={**ada, "CRDTDB_AS": "bob"})
    assert (code, "bob.pem" in err) == (6, True)
    assert run("status", env={"CRDTDB_URL": ada["CRDTDB_URL"]})[0] == 2
    for name in (["authority"], ["client", "ada"]):
        assert run("cert", *name, cwd=tmp_path)[0] == 0
    code, _, err = run("status", env={**ada, "CRDTDB_CERTS": str(tmp_path / "certs")})
    assert (code, "node of this cluster" in err) == (6, True), err


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        ([], 2, "a node needs a name"),
        (["--name", "n1"], 2, "a node needs a place for its data"),
        (["--name", "n1", "--data", "d", "--listen", "nonsense"], 2, "an address is HOST:PORT"),
        (["--name", "n1", "--data", "d", "--join", "x:99999"], 2, "--join 'x:99999'"),
        (["--name", "n1", "--data", "d", "--reach", "n2"], 2, "NAME=HOST:PORT"),
        (["--name", "a b", "--data", "d"], 2, "a name has letters"),
        (["--name", "n1", "--data", "d", "--certs", "none"], 6, "can't read the certificate none/ca.pem"),
        (["--name", "n1", "--data", "d", "--wrong"], 2, "No such option"),
        (["--name", "n1", "--data", "d", "--durability", "never"], 2, "never"),
        (["--config", "nowhere.toml"], 2, "can't read nowhere.toml"),
        (["--config", "bad.toml"], 2, "bad.toml"),
        (["--config", "resolver.toml"], 2, "there is no resolver 'newest'"),
    ],
)
def test_a_node_says_what_is_wrong_before_it_begins(tmp_path: Path, flags: list[str], code: int, words: str) -> None:
    (tmp_path / "bad.toml").write_text('name = "n1"\ncolour = "red"\n')
    (tmp_path / "resolver.toml").write_text('name = "n1"\ndata = "d"\n[collections.a]\nresolver = "newest"\n')
    found, _, err = run("node", *flags, cwd=tmp_path)
    assert (found, words in err) == (code, True), err
    assert "Traceback" not in err
    assert not (tmp_path / "d").exists()


def test_a_node_takes_a_file_the_environment_and_flags(cluster: DemoCluster, tmp_path: Path) -> None:
    """Flags go over the environment, that over the file; SIGINT stops it cleanly within 5 seconds."""
    (tmp_path / "node.toml").write_text(
        f'name = "n1"\ndata = "memory:"\ncerts = "{cluster.certs}"\nlisten = "127.0.0.1:1"\nhttp = "127.0.0.1:1"\n'
        'log = "debug"\n[collections.carts]\nresolver = "last_write_wins"\n'
    )
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "crdtdb",
            "node",
            "--config",
            str(tmp_path / "node.toml"),
            "--http",
            "127.0.0.1:0",
            "--log-json",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, "CRDTDB_NODE_LISTEN": "127.0.0.1:0", "CRDTDB_NODE_HTTP": "127.0.0.1:2"},
        preexec_fn=heed_interrupts,
    )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready.startswith("ready: gossip on 127.0.0.1:")
        url = ready.split()[-1]
        code, out, _ = run("status", "--url", url, "--certs", str(cluster.certs), "--as", "ada")
        assert (code, "on memory" in out) == (0, True)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=5)
        assert process.returncode == 0
        assert [json.loads(line)["level"] for line in err.splitlines()]
    finally:
        process.kill()
        process.communicate()


def test_two_nodes_cannot_share_a_port_or_a_store(cluster: DemoCluster, tmp_path: Path) -> None:
    certs = str(cluster.certs)
    port = f"127.0.0.1:{cluster.gossip['n1']}"
    code, _, err = run("node", "--name", "n1", "--data", "memory:", "--certs", certs, "--listen", port)
    assert (code, "can't listen on" in err) == (2, True), err
    free = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    code, _, err = run("node", "--name", "n1", "--data", str(cluster.folder / "n1"), "--certs", certs, *free)
    assert (code, "is open in another process" in err) == (1, True), err
    code, _, err = run("node", "--name", "ada", "--data", "memory:", "--certs", certs, *free)
    assert (code, "isn't the certificate of a node 'ada'" in err) == (6, True), err


@pytest.mark.timeout(120)
def test_the_demo_proves_what_it_says(tmp_path: Path) -> None:
    code, out, err = run("demo", "--dir", str(tmp_path / "demo"))
    assert code == 0, out + err
    for words in (
        "13,",
        "is a conflict",
        "merged by themselves",
        "acknowledged writes are on all three nodes",
        "equal.",
    ):
        assert words in out
    assert max(len(line) for line in out.splitlines()) <= 80


@pytest.mark.timeout(120)
def test_a_demo_that_is_kept_goes_on_until_it_is_interrupted(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "crdtdb", "demo", "--keep", "--dir", str(tmp_path / "demo")],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        preexec_fn=heed_interrupts,
    )
    lines: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "crdtdb export" in line:
                break
        commands = [
            line.strip() for line in "".join(lines).replace("\n--", " --").splitlines() if "crdtdb " in line[:10]
        ]
        assert len(commands) == 6
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.terminate()
        process.communicate(timeout=20)
    for name in ("n1", "n2", "n3"):
        assert "has stopped" in (tmp_path / "demo" / f"{name}.log").read_text()
