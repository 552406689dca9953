"""JavaScript in its sandbox: real processes, and functions that throw, loop, eat memory, or end their process."""

from __future__ import annotations

import logging
import os
import resource
import signal
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest

from crdtdb.clock import monotonic_seconds
from crdtdb.errors import ScriptError, ScriptingMissingError
from crdtdb.javascript import Function, Refusal, Scripts
from crdtdb.javascript.process import Process
from tests.inside import child_of, view_processes

pytestmark = pytest.mark.processes


def quick() -> Process:
    return Process(seconds=0.3)


@pytest.fixture
def scripts() -> Iterator[Scripts]:
    made = Scripts(start=quick)
    yield made
    made.close()


def function(source: str, modules: dict[str, Any] | None = None) -> Function:
    return Function("_design/app/_view/v", source, modules)


DOCS: list[dict[str, Any]] = [
    {"_id": "a", "n": 1, "tags": ["x", "y"]},
    {"_id": "b", "n": 2},
    {"_id": "é", "n": 1.5, "tags": []},
]


def test_what_a_map_function_emits(scripts: Scripts) -> None:
    emit = function(
        "function (doc) { emit(doc.n, null); (doc.tags || []).forEach(function (tag) { emit([tag], doc._id) }) };"
    )
    assert scripts.map(emit, DOCS) == [[(1, None), (["x"], "a"), (["y"], "a")], [(2, None)], [(1.5, None)]]
    assert scripts.map(
        function("doc => { emit(); emit(undefined, sum([1, 2])); emit(isArray([]), toJSON({a: 1})) }"), DOCS[:1]
    ) == [[(None, None), (None, 3), (True, '{"a":1}')]]
    assert scripts.map(emit, []) == []
    many = [{"_id": str(n), "n": n, "text": "x" * 3_000} for n in range(1_000)]
    assert scripts.map(function("doc => emit(doc.n, doc.text)"), many) == [[(n, "x" * 3_000)] for n in range(1_000)]


def test_modules(scripts: Scripts) -> None:
    modules = {
        "views": {
            "lib": {
                "words": "exports.upper = require('./deep/more').upper",
                "deep": {
                    "more": "exports.upper = function (text) { return require('../words') && text.toUpperCase() }"
                },
            }
        }
    }
    assert scripts.map(function("doc => emit(require('views/lib/words').upper(doc._id), 1)", modules), DOCS[:1]) == [
        [("A", 1)]
    ]
    with pytest.raises(ScriptError, match="no module nothing"):
        scripts.reduce(function("() => require('nothing')", modules), None, [], False)


def test_one_that_throws_emits_nothing_for_that_document(scripts: Scripts, caplog: pytest.LogCaptureFixture) -> None:
    emitted = scripts.map(
        function("doc => { emit(1); log({seen: doc._id}); if (doc.n > 1) throw new Error('too many'); emit(2) }"),
        DOCS[:2],
    )
    assert emitted == [[(1, None), (2, None)], []]
    assert "threw over document 'b': Error: too many" in caplog.text
    caplog.set_level(logging.INFO, "crdtdb.scripts")
    scripts.map(function("doc => log({seen: doc._id})"), DOCS[:1])
    assert '_design/app/_view/v says: {"seen":"a"}' in caplog.text


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("doc => { while (true) {} }", "took too long"),
        ("doc => { try { while (true) {} } catch (error) { emit(1) } }", "took too long"),
        ("doc => /^(a|a|aa)+$/.test('a'.repeat(60) + '!')", "took too long"),
        ("doc => { const all = []; while (true) all.push('x'.repeat(100000) + all.length) }", "too much memory"),
        ("doc => { let text = 'x'; while (true) text += text }", "too much memory"),
        ("doc => { while (true) emit(doc) }", "too much memory|too long"),
        ("doc => { for (;;) { try { [].fill.call({length: 1e9}, 'x') } catch (error) {} } }", "took too long|too much"),
        ("doc => { 'a'.repeat(2e7).indexOf('a'.repeat(1e6) + 'b') }", "took too long"),
        ("doc => { Array.prototype.reverse.call({length: 2 ** 53 - 1}) }", "took too long"),
        ("doc => { const t = new Uint8Array(3e7); for (;;) t.sort() }", "took too long"),
        ("doc => { new Array(4e9).join('') }", "took too long"),
        ("doc => { emit({toJSON() { for (;;); }}) }", "took too long"),
        ("doc => { throw {get forbidden() { for (;;); }} }", "took too long"),
        ("5", "it is no function"),
        ("function (doc) {", "SyntaxError"),
        ("", "SyntaxError"),
        ("doc => { world = 1; globalThis.__call = () => '{'; emit(2) }", None),
    ],
)
def test_one_that_takes_too_much_is_stopped_alone(scripts: Scripts, source: str, reason: str | None) -> None:
    begun = monotonic_seconds()
    if reason is None:
        scripts.map(function(source), DOCS[:1])
    else:
        with pytest.raises(ScriptError, match=f"^_design/app/_view/v: .*({reason})"):
            scripts.map(function(source), DOCS[:1])
    assert monotonic_seconds() - begun < 10
    assert scripts.map(function("doc => emit(doc.n)"), DOCS[:1]) == [[(1, None)]], "the next one runs"


@pytest.mark.parametrize(
    "source",
    [
        "doc => { while (true) {} }",
        "doc => { 'a'.repeat(2e7).indexOf('a'.repeat(1e6) + 'b') }",
        "doc => { const t = new Uint8Array(3e7); for (;;) t.sort() }",
    ],
)
def test_the_bound_is_cpu_also_where_the_engine_doesnt_look_at_its_clock(scripts: Scripts, source: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with pytest.raises(ScriptError, match="it took too long, and was stopped"):
        scripts.map(function(source), DOCS[:1])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


EMOJI: list[dict[str, Any]] = [{"_id": "😀", "text": "a😀b"}]


@pytest.mark.parametrize(
    ("source", "emitted"),
    [
        ("doc => emit(doc.text, doc.text.length)", [("a😀b", 4)]),
        ("doc => emit([...doc.text][1], doc._id)", [("😀", "😀")]),
        ("doc => emit(doc.text[1], doc.text.slice(2))", [("�", "�b")]),
        ("doc => emit(doc.text.slice(0, 2), {[doc.text[2]]: 1})", [("a�", {"�": 1})]),
        ("doc => { log(doc.text[1]); emit(1) }", [(1, None)]),
        ("doc => { log('😀'.repeat(1000)); emit('\\\\ud83d', '\\\\\\\\' + doc.text[1]) }", [("\\ud83d", "\\\\�")]),
        ("doc => { throw new Error(doc.text[1]) }", []),
    ],
)
def test_characters_beyond_the_first_plane(scripts: Scripts, source: str, emitted: list[Any]) -> None:
    """Half of one becomes U+FFFD, as in JavaScript's own `toWellFormed`; whole ones stay."""
    assert scripts.map(function(source), EMOJI) == [emitted]


def test_halves_of_characters_in_filters_and_refusals(scripts: Scripts) -> None:
    assert scripts.filter(function("(doc, req) => doc.text[1] === req.query.x[0]"), EMOJI, {"query": {"x": "😀"}}) == [
        True
    ]
    guard = function("doc => { throw({forbidden: doc.text[1]}) }")
    assert scripts.validate(guard, EMOJI[0], None, {}, {}) == Refusal("forbidden", "�")
    assert scripts.reduce(function("(keys, values) => values[0][1]"), None, ["a😀"], False) == "�"


@pytest.mark.parametrize(
    "source",
    [
        "doc => { Array.prototype.toJSON = () => 5; emit(1) }",
        "doc => { Object.prototype.toJSON = () => 'x' }",
        "doc => { Object.prototype.toJSON = () => ({refused: 'nobody', logged: []}) }",
        "doc => { let deep = []; for (let n = 0; n < 300; n++) deep = [deep]; emit(deep) }",
    ],
)
def test_one_that_spoils_its_answer(scripts: Scripts, source: str) -> None:
    with pytest.raises(ScriptError, match="its answer|call stack"):
        scripts.map(function(source), DOCS)
    assert scripts.map(function("doc => emit(doc.n)"), DOCS[:1]) == [[(1, None)]]


@pytest.mark.parametrize(
    "source",
    [
        "doc => { globalThis.__call = () => '{'; emit(2) }",
        "doc => { JSON.stringify = () => '{'; Array.prototype.push = function () { this[0] = 5 }; emit(2) }",
        "doc => { JSON.parse = () => 5; Reflect.apply = null; emit(2) }",
    ],
)
def test_one_that_replaces_what_calls_it(scripts: Scripts, source: str) -> None:
    assert scripts.map(function(source), DOCS) == [[(2, None)]] * 3


def test_dates_are_the_same_everywhere(scripts: Scripts) -> None:
    assert scripts.map(
        function("doc => emit(new Date(0).getHours(), new Date(2026, 0, 1).toISOString())"), DOCS[:1]
    ) == [[(0, "2026-01-01T00:00:00.000Z")]]


def test_a_function_that_is_called_too_deep_throws(scripts: Scripts) -> None:
    with pytest.raises(ScriptError, match="stack"):
        scripts.reduce(function("function f() { return f() }"), None, [], True)


def test_there_is_nothing_of_the_machine_in_reach(scripts: Scripts) -> None:
    names = [
        "require",
        "process",
        "std",
        "os",
        "fetch",
        "XMLHttpRequest",
        "setTimeout",
        "print",
        "console",
        "Deno",
        "scriptArgs",
    ]
    source = f"doc => emit({names!r}.filter(name => typeof globalThis[name] !== 'undefined'))"
    assert scripts.map(function(source), DOCS[:1]) == [[([], None)]]


def test_functions_dont_meet(scripts: Scripts) -> None:
    scripts.map(function("doc => { globalThis.left = 5; Array.prototype.map = null; emit = null }"), DOCS[:1])
    assert scripts.map(function("doc => emit(typeof left, [1].map(x => x + 1))"), DOCS[:1]) == [[("undefined", [2])]]


def test_reduce_filter_and_validate(scripts: Scripts) -> None:
    reduce = function(
        "function (keys, values, rereduce) { return rereduce ? sum(values) : values.length + keys.length }"
    )
    assert scripts.reduce(reduce, [["k", "a"], ["k", "b"]], [1, 1], False) == 4
    assert scripts.reduce(reduce, None, [4, 5], True) == 9
    with pytest.raises(ScriptError, match="threw: TypeError"):
        scripts.reduce(reduce, None, [1], False)
    chosen = function("function (doc, req) { return doc.n >= Number(req.query.least) && 'yes' }")
    assert scripts.filter(chosen, DOCS, {"query": {"least": "1.5"}}) == [False, True, True]
    guard = function("""function (doc, before, user, security) {
        if (before && before.owner !== user.name) throw({forbidden: 'it is of ' + before.owner})
        if (!user.name) throw({unauthorized: 'who are you'})
        if (doc.bad) throw 'a mistake'
    }""")
    assert scripts.validate(guard, {"_id": "a"}, None, {"name": "ada"}, {}) is None
    assert scripts.validate(guard, {}, {"owner": "bob"}, {"name": "ada"}, {}) == Refusal("forbidden", "it is of bob")
    assert scripts.validate(guard, {}, None, {"name": None}, {}) == Refusal("unauthorized", "who are you")
    with pytest.raises(ScriptError, match="threw: a mistake"):
        scripts.validate(guard, {"bad": 1}, None, {"name": "ada"}, {})


def test_a_process_that_is_killed_is_replaced(scripts: Scripts) -> None:
    scripts.map(function("doc => emit(1)"), DOCS[:1])
    (process,) = view_processes(scripts).idle
    os.kill(process.pid, signal.SIGKILL)
    child_of(process).wait(10)
    assert scripts.map(function("doc => emit(1)"), DOCS[:1]) == [[(1, None)]]


def looping(scripts: Scripts) -> tuple[Thread, list[BaseException]]:
    """Let a function loop in a thread; return that, and what it will have raised."""
    failed: list[BaseException] = []

    def loop() -> None:
        try:
            scripts.map(function("doc => { while (true) {} }"), DOCS[:1])
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=loop)
    thread.start()
    return thread, failed


def test_a_process_that_is_killed_at_work(scripts: Scripts) -> None:
    started: list[Process] = []

    def start() -> Process:
        started.append(Process(seconds=30))
        return started[-1]

    patient = Scripts(start=start)
    thread, failed = looping(patient)
    while not started or not started[0].alive:
        pass
    os.kill(started[0].pid, signal.SIGKILL)
    thread.join(10)
    assert [type(one) for one in failed] == [ScriptError]
    assert patient.map(function("doc => emit(1)"), DOCS[:1]) == [[(1, None)]]
    patient.close()
    with pytest.raises(ScriptError, match="stopping"):
        patient.map(function("doc => emit(1)"), DOCS[:1])


def test_one_that_never_answers_is_ended() -> None:
    process = Process(seconds=0.05)
    assert len(list(process.call(b"x", b'{"source":"doc => 1","modules":null}', b"map", [b"{}"]))) == 1
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(ScriptError, match="took too long, and was ended"):
        list(process.call(b"x", b"{}", b"map", [b"{}"]))
    assert not process.alive
    process.end()


def test_many_threads_share_few_processes(scripts: Scripts) -> None:
    found: list[Any] = []

    def work(number: int) -> None:
        found.append(scripts.map(function(f"doc => emit({number}, doc.n)"), DOCS[:1]) == [[(number, 1)]])

    threads = [Thread(target=work, args=(number,)) for number in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert found == [True] * 20
    assert len(view_processes(scripts).idle) <= 2


def test_without_the_engine_it_says_what_to_install(scripts: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtdb.javascript.process.find_spec", lambda name: None)
    with pytest.raises(ScriptingMissingError, match=r"pip install 'crdtdb\[javascript\]'"):
        scripts.check_installed()
    with pytest.raises(ScriptingMissingError):
        scripts.map(function("doc => 1"), DOCS)


def test_descriptors_may_have_high_numbers(scripts: Scripts) -> None:
    """As in a node with many connections: `select` would refuse them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4_096), hard))
    opened = [os.dup(0) for _ in range(1_100)]
    try:
        assert scripts.map(function("doc => emit(1)"), DOCS[:1]) == [[(1, None)]]
    finally:
        for one in opened:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_closing_doesnt_wait_for_a_function_that_loops() -> None:
    patient = Scripts(start=lambda: Process(seconds=60))
    thread, failed = looping(patient)
    while not any(one is not None for one in view_processes(patient).busy):
        pass
    begun = monotonic_seconds()
    patient.close()
    thread.join(20)
    assert not thread.is_alive()
    assert monotonic_seconds() - begun < 10
    assert [type(one) for one in failed] == [ScriptError]
    assert view_processes(patient).idle == view_processes(patient).busy == []
