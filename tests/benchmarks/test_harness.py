"""The harness measures, keeps, reports and compares; what it is given wrongly it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from benchmarks.__main__ import main
from benchmarks.documents import GENERATED, Documents
from benchmarks.goals import GOALS, Goal
from benchmarks.report import fitted_exponent, markdown
from benchmarks.results import Fact, Point, Result, Series, Spread, ratio
from benchmarks.runner import Plan, Workload, run_workload, started
from benchmarks.suite import GROUPS
from benchmarks.synced import count_fsyncs
from benchmarks.targets import Session, Target, Unavailable
from benchmarks.targets.bare import Plyvel, SQLite, Tiny
from benchmarks.targets.embedded import Embedded
from benchmarks.workloads import documents
from benchmarks.workloads.growth import growth
from benchmarks.workloads.replication import at_rest, bytes_on_the_wire, store_to_store
from benchmarks.workloads.spreading import CURVE, spreading
from benchmarks.workloads.tails import tails
from benchmarks.workloads.texts import edits
from click.testing import CliRunner

from benchmarks import results

SMALL = Plan(1, 0.002, GENERATED)


def silent(_: str) -> None:
    pass


def empty() -> Result:
    return Result(started="2026-01-01T00:00:00+00:00", machine={"cores": "2"}, versions={}, rounds=1, documents="made")


def series(target: str, values: list[float], workload: str = "put", durability: str = "buffered") -> Series:
    return Series(
        workload=workload,
        target=target,
        durability=durability,  # type: ignore[arg-type]
        unit="documents/s",
        documents=10,
        values=values,
    )


@pytest.mark.parametrize("workload", documents.BUFFERED, ids=lambda one: one.name)
def test_every_workload_runs_at_every_target_that_is_able_to(workload: Workload) -> None:
    result = empty()
    targets: list[Target] = [Embedded("leveldb", "buffered"), Embedded("memory", "none"), Plyvel("buffered")]
    targets += [SQLite("buffered"), Tiny(), Embedded("sqlite", "fsync")]
    with started(targets, result) as up:
        run_workload(workload, up, SMALL, result, silent)
    assert {one.target for one in result.series} >= {"crdtdb, leveldb", "crdtdb, sqlite"}
    assert all(one.values[0] > 0 and len(one.values) == 1 for one in result.series)
    able = [one for one in targets if {workload.ability, *workload.needs} <= one.abilities]
    assert len(result.series) == len(able)


def test_what_a_machine_lacks_is_left_out_and_said() -> None:
    class Missing(Plyvel):
        def open(self, place: Path):  # type: ignore[no-untyped-def]
            raise Unavailable("it isn't installed")

    result, missing = empty(), Missing("buffered")
    missing.name = "something else"
    with started([missing, Plyvel("buffered")], result) as up:
        assert [one.name for one in up] == ["plyvel"]
    assert result.skipped == {"something else": "it isn't installed"}
    assert "it isn't installed" in markdown(result)


def test_a_session_that_fails_stops_the_run() -> None:
    """A number that was measured while calls failed would be worse than none."""

    class Failing(Session):
        def put(self, doc_id: str, document: dict[str, object]) -> None:
            raise OSError(f"no {doc_id}")

    with pytest.raises(OSError, match="no a"):
        Failing().measure("put", [("a", {})])


def test_crdtdb_alone_is_measured() -> None:
    result = empty()
    plan = Plan(1, 0.02, GENERATED)
    growth(result, plan, silent, [300, 600])
    spreading(result, plan, silent)
    store_to_store(result, plan, silent)
    bytes_on_the_wire(result, plan, silent)
    at_rest(result, silent)
    edits(result, plan, silent)
    flat = {one.curve for one in result.points if one.flat}
    assert {"put", "get", "open and read one", "exchange with nothing new"} <= flat
    assert [one.size for one in result.points if one.curve == "put"] == [300, 600]
    assert max(one.value for one in result.points if one.curve == CURVE) <= 14
    text = markdown(result)
    assert "exchange of 100 changed documents of 1,000" in text
    nothing = next(goal for goal in GOALS if goal.name == "bytes when nothing changed")
    found = nothing.find(result)
    assert found is not None
    assert nothing.verdict(found) == "the best"


def test_writers_are_measured_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.workloads.tails._SECONDS", 0.2)
    result = empty()
    tails(result, Plan(1, 0.02, GENERATED), silent)
    names = [one.workload for one in result.series]
    assert names == [f"a writer, {beside}" for beside in ("alone", "beside exchanges", "beside a collection", "beside a compaction")]  # fmt: skip  # noqa: E501
    assert all(one.latencies["p50"] <= one.latencies["max"] for one in result.series)


def test_fsyncs_are_counted() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace isn't installed")
    result = empty()
    targets: list[Target] = [Plyvel("fsync"), Plyvel("buffered"), Embedded("leveldb", "fsync")]
    targets += [Embedded("leveldb", "buffered"), SQLite("fsync")]
    count_fsyncs(targets, result, silent)
    if result.skipped:
        pytest.skip(f"watching system calls needs a permission which no package brings: {result.skipped}")
    found = {(one.target, one.durability): one.fsyncs for one in result.synced}
    assert found["plyvel", "fsync"] == found["crdtdb, leveldb", "fsync"] == 60
    assert found["sqlite3", "fsync"] >= 60
    assert found["plyvel", "buffered"] < 10
    assert found["crdtdb, leveldb", "buffered"] < 10
    assert "as said" in markdown(result)
    assert "**" not in markdown(result)


def test_ratios_are_of_the_same_round() -> None:
    pairs = ratio([10, 100, 30], [5, 200, 10])
    assert (pairs.low, pairs.value, pairs.high) == (0.5, 2, 3)


def test_exponents_are_fitted() -> None:
    def curve(power: float) -> list[Point]:
        return [Point(curve="c", unit="s", size=size, value=3 * size**power) for size in (10, 100, 1_000)]

    assert fitted_exponent(curve(1)) == pytest.approx(1)
    assert fitted_exponent(curve(0)) == pytest.approx(0)
    assert fitted_exponent(curve(2)) == pytest.approx(2)
    assert fitted_exponent(curve(1)[:1]) is None


def test_a_goal_says_how_far_it_is_reached() -> None:
    more = Goal("more", 0.5, 0.8, "", lambda _: None)
    less = Goal("less", 150, 60, "bytes", lambda _: None)
    assert [more.verdict(Spread(value, value, value)) for value in (0.4, 0.5, 0.9)] == ["no", "yes", "the best"]
    assert [less.verdict(Spread(value, value, value)) for value in (151, 150, 60)] == ["no", "yes", "the best"]


def test_a_result_is_kept_and_read_again(tmp_path: Path) -> None:
    result = empty()
    result.series.append(series("plyvel", [1.0, 2.0]))
    result.facts.append(Fact(name="a", value=1, unit="bytes"))
    results.save(result, tmp_path / "a" / "one.json")
    assert results.load(tmp_path / "a" / "one.json") == result
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match=r"bad\.json isn't the result of a run"):
        results.load(tmp_path / "bad.json")
    (tmp_path / "old.json").write_text((tmp_path / "a" / "one.json").read_text().replace('"format": 1', '"format": 0'))
    with pytest.raises(ValueError, match="has format 0, this harness reads 1"):
        results.load(tmp_path / "old.json")


def test_the_commands_run_report_and_compare(tmp_path: Path) -> None:
    own = tmp_path / "mine.jsonl"
    own.write_text("".join(json.dumps({"_id": f"{n}", "n": n, "name": f"ada {n}"}) + "\n" for n in range(20)))
    out = tmp_path / "out" / "result.json"
    asked = ["run", "choices", "--scale", "quick", "--rounds", "1", "--documents", str(own), "--out", str(out)]
    ran = CliRunner().invoke(main, asked)
    assert ran.exit_code == 0, ran.output
    assert "20 of mine.jsonl" in ran.output
    assert results.load(out).find("write a row", "CBOR, cbor2", "buffered") is not None
    for name in ("report.md", "throughput.svg"):
        assert (out.parent / name).exists()
    again = CliRunner().invoke(main, ["report", str(out), "--out", str(tmp_path / "again")])
    assert (tmp_path / "again" / "report.md").read_text() == (out.parent / "report.md").read_text(), again.output
    compared = CliRunner().invoke(main, ["compare", str(out), str(out)])
    assert "| 1.00 |" in compared.output
    counted = CliRunner().invoke(main, ["compare"])
    assert (counted.exit_code, "operations cost what they did" in counted.output) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nothing"], "is not one of 'documents'"),
        (["run", "--node", "https://127.0.0.1:1"], "--node and --certs go together"),
        (["run", "--documents", "no.jsonl"], "does not exist"),
        (["compare", "one.json"], "name two results, or none"),
        (["report", "broken.json"], "isn't the result of a run"),
        (["run", "--documents", "list.jsonl"], "isn't a JSON object"),
        (["run", "--documents", "empty.jsonl"], "holds no document"),
        (["run", "--node", "https://127.0.0.1:1", "--certs", "."], "crdtdb cert"),
    ],
)
def test_what_is_asked_wrongly_is_said(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("one.json", "{}"), ("broken.json", "["), ("list.jsonl", "[1]\n"), ("empty.jsonl", "\n")):
        (tmp_path / name).write_text(text)
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code != 0
    assert said in answer.output
    assert "Traceback" not in answer.output


def test_every_group_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "measure.md").read_text()
    assert [name for name in GROUPS if f"`{name}`" not in text] == []


def test_made_documents_are_the_same_for_a_seed_and_about_a_kilobyte() -> None:
    assert GENERATED.take(5, seed=1) == GENERATED.take(5, seed=1)
    assert GENERATED.take(5, seed=1) != GENERATED.take(5, seed=2)
    sizes = [len(json.dumps(body)) for _, body in GENERATED.take(50)]
    assert 800 < sum(sizes) / len(sizes) < 1_100


def test_own_documents_are_used_again_if_there_are_too_few(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"_id": "a", "n": 1}\n{"n": 2}\n')
    source = Documents.from_lines(path)
    taken = source.take(5)
    assert [body["n"] for _, body in taken] == [1, 2, 1, 2, 1]
    assert len({doc_id for doc_id, _ in taken}) == 5
