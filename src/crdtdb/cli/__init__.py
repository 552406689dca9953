"""The command `crdtdb`."""

from __future__ import annotations

import sys

from crdtdb import __version__
from crdtdb.errors import ExtraMissingError

__all__ = ["main"]


def main() -> None:
    """Run the command, and end the process with its exit code.

    Without the extra `node` there is no command line, only `--version`; all else says what to install, and exits with 1.
    """
    try:
        from crdtdb.cli.main import main as run
    except ModuleNotFoundError as error:
        missing = ExtraMissingError.of(error, "the command line", "node")
        if sys.argv[1:] == ["--version"]:
            sys.stdout.write(f"crdtdb, version {__version__}\n")
            return
        sys.stderr.write(f"crdtdb: {missing}\n")
        sys.exit(1)
    run()
