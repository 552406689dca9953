"""The command `crdtdb`."""

from crdtdb.cli.main import main

__all__ = ["main"]
