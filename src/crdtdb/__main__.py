"""`python -m crdtdb` is the command `crdtdb`."""

from crdtdb.cli import main

main()
