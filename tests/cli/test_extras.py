"""A library without the extra `node`: the command and the node say what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

from crdtdb import __version__
from crdtdb.errors import ExtraMissingError

WITHOUT = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Without())
sys.argv = ["crdtdb", *{arguments!r}]
{program}
"""
NODE = (
    "click",
    "cryptography",
    "httpx",
    "rich",
    "starlette",
    "uvicorn",
    "websockets",
    "uvloop",
    "prometheus_client",
    "httptools",
)
COMMAND = "import runpy; runpy.run_module('crdtdb', run_name='__main__')"


def run(program: str, *arguments: str, missing: tuple[str, ...] = NODE) -> subprocess.CompletedProcess[str]:
    code = WITHOUT.format(missing=missing, arguments=list(arguments), program=program)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_bare_library_tells_its_version() -> None:
    answer = run(COMMAND, "--version")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, f"crdtdb, version {__version__}\n", "")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("status",), ("nonsense", "--version")])
def test_a_bare_command_says_what_to_install(arguments: tuple[str, ...]) -> None:
    answer = run(COMMAND, *arguments)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == (
        "crdtdb: the command line needs the package 'click', which isn't installed: pip install 'crdtdb[node]'\n"
    )


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [("httpx", ("status",)), ("cryptography", ("cert", "list")), ("starlette", ("node", "--name", "n1"))],
)
def test_a_command_that_lacks_a_package_names_its_extra(missing: str, arguments: tuple[str, ...]) -> None:
    answer = run(COMMAND, *arguments, missing=(missing,))
    assert answer.returncode == 1, answer
    assert f"needs the package {missing!r}, which isn't installed: pip install 'crdtdb[node]'" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_node_that_lacks_a_package_names_the_extra() -> None:
    answer = run("import crdtdb.node")
    assert "pip install 'crdtdb[node]'" in answer.stderr
    assert run("import crdtdb, crdtdb.aio").returncode == 0


def test_an_error_of_the_package_itself_stays_what_it_is() -> None:
    own = ModuleNotFoundError("No module named 'crdtdb.nonsense'", name="crdtdb.nonsense")
    with pytest.raises(ModuleNotFoundError) as raised:
        ExtraMissingError.of(own, "a node", "node")
    assert raised.value is own
