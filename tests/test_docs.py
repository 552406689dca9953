"""The documentation can't drift: every command, route, setting and error is in it, and its examples run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.routing import Route

import crdtdb
from crdtdb import errors, limits
from crdtdb.cli.main import _COMMANDS
from crdtdb.config import NodeConfig
from crdtdb.crdts import catalogue
from crdtdb.http.app import RESOURCES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def test_every_command_is_documented() -> None:
    text = (DOCS / "reference" / "commands.md").read_text()
    for name in (*_COMMANDS, "cert authority", "cert node", "cert client"):
        if name != "cert":
            assert f"`crdtdb {name}`" in text, name


def test_every_route_is_documented() -> None:
    text = (DOCS / "reference" / "http.md").read_text()
    rows = {row[1].strip(" `"): row[2] for line in text.splitlines() if len(row := line.split("|")) > 3}
    for route in [route for resource in RESOURCES for route in resource.ROUTES]:
        path = route.path.replace(":path", "")
        assert path in rows, f"{path} isn't in docs/reference/http.md"
        methods = (route.methods or set()) - {"HEAD"} if isinstance(route, Route) else {"WebSocket"}
        for method in methods:
            assert method in rows[path], f"{method} {path} isn't in docs/reference/http.md"


def test_every_metric_is_documented() -> None:
    text = (DOCS / "reference" / "metrics.md").read_text()
    names = {
        name
        for path in (ROOT / "src").rglob("*.py")
        for name in re.findall(r'Metric\(\s*"([a-z_]+)",', path.read_text())
    }
    assert len(names) > 30
    for name in names:
        assert re.search(rf"`crdtdb_{name}(_total)?`", text), name


def test_every_setting_is_documented() -> None:
    text = (DOCS / "reference" / "configuration.md").read_text()
    for name in NodeConfig.__struct_fields__:
        assert f"| `{name}` |" in text, name


def test_every_error_that_a_caller_meets_is_documented() -> None:
    text = (DOCS / "reference" / "library.md").read_text()
    between_nodes = {"EncodingError", "ProtocolError", "DotCollisionError", "ConvergenceError"}
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.CrdtdbError) and name not in between_nodes:
            assert f"`{name}`" in text, name
            assert name in crdtdb.__all__, name


def test_every_field_type_is_documented_with_all_its_operations() -> None:
    rows = {}
    for line in (DOCS / "reference" / "fields.md").read_text().splitlines():
        cells = line.split(" | ")
        if len(cells) == 5:
            rows[cells[0].strip("| `")] = cells[3]
    for kind in catalogue.catalogue().values():
        for name, operation in kind.operations.items():
            names, needed = catalogue.parameters(operation)
            assert f"`{name}(" in rows[kind.__name__], f"{kind.__name__}.{name}"
            (shown,) = [one for one in rows[kind.__name__].split("`") if one.startswith(f"{name}(")]
            said = [one.split("=")[0].strip() for one in shown[len(name) + 1 : -1].split(",") if one]
            assert said == list(names), f"{kind.__name__}.{name}: {said}"
            assert {one for one in said if f"{one}=" not in shown} == needed
        assert kind.__name__ in crdtdb.__all__


def test_every_page_is_in_the_table_of_contents() -> None:
    """Decisions are in their own generated index instead: `test_decisions.py`."""
    contents = (ROOT / "mkdocs.yml").read_text()
    for page in set(DOCS.rglob("*.md")) - set(DOCS.glob("decisions/[0-9]*.md")):
        assert str(page.relative_to(DOCS)) in contents, page


def test_every_bound_and_test_of_the_threat_model_exists() -> None:
    text = (DOCS / "explanation" / "threat-model.md").read_text()
    tests = set(re.findall(r"`((?:[a-z]+/)+test_\w+\.py)(?:::(\w+))?`", text))
    assert len(tests) > 30
    for file, name in tests:
        path = ROOT / "tests" / file.removeprefix("tests/")
        assert path.exists(), file
        assert not name or f"def {name}(" in path.read_text(), f"{file}::{name}"
    named = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", text))
    assert len(named) > 30
    assert named <= vars(limits).keys(), named - vars(limits).keys()


def test_each_place_that_the_recipes_name_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    places = set(re.findall(r"`((?:src|tests|docs|requirements)/[\w./-]+)`", text))
    assert len(places) > 25
    for place in places - {"docs/decisions/NNNN-title.md"}:
        assert (ROOT / place).exists(), place
    for place, names in {
        "src/crdtdb/query/selectors.py": ("_SIMPLE", "_NESTING", "_OPPOSITES"),
        "src/crdtdb/http/permissions.py": ("NEEDS",),
        "src/crdtdb/http/request_schemas.py": ("QUERIES", "BODIES"),
        "src/crdtdb/wire/codec.py": ("MESSAGES",),
        "src/crdtdb/cli/main.py": ("_COMMANDS",),
    }.items():
        for name in names:
            assert f"`{name}`" in text, name
            assert re.search(rf"^{name}\b", (ROOT / place).read_text(), re.MULTILINE), f"{name} isn't in {place}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in (*DOCS.rglob("*.md"), *ROOT.glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


def examples() -> list[tuple[str, str]]:
    found = []
    for page in (ROOT / "README.md", *sorted(DOCS.rglob("*.md"))):
        blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
        found += [(f"{page.relative_to(ROOT)}, {number}", block) for number, block in enumerate(blocks, 1)]
    return found


@pytest.mark.parametrize(("where", "code"), examples(), ids=[where for where, _ in examples()])
def test_python_examples_run(where: str, code: str, tmp_path: Path) -> None:
    """Each as a program of its own; those that go on from others find a database open.

    What leaves files behind runs a second time beside them, as a reader tries it.
    """
    if "crdtdb.open" not in code and re.search(r"\b(db|notes)\b", code):
        code = (
            "import crdtdb\nmerged = lambda bodies: bodies[0]\ndb = crdtdb.open('memory:')\n"
            "notes = db.collection('notes')\n" + code
        )
    run(where, code, tmp_path)
    if any(tmp_path.iterdir()):
        run(f"{where}, a second time", code, tmp_path)


def run(where: str, code: str, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{where}:\n{done.stderr}"


def test_the_text_of_the_readme_merges_as_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever has the higher client id: two that type at one place come in either order."""
    (code,) = [code for where, code in examples() if where.startswith("README.md") and "crdtdb.Text" in code]
    (said,) = re.findall(r'body "(.*?)"', code.rpartition("#")[2])
    for _ in range(8):
        exec(compile(code, "README.md", "exec"), {})
        assert f"'body': '{said}'" in capsys.readouterr().out
