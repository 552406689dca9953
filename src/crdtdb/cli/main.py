"""The command line: the group of commands, and how errors become messages and exit codes.

0 done    1 failed    2 wrong usage    3 not found    4 conflict    5 the node can't be reached, or not now
6 a certificate is missing or wrong    130 interrupted
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from crdtdb import __version__
from crdtdb.errors import (
    BackendMissingError,
    CertificateError,
    ConfigurationError,
    ConflictError,
    CrdtdbError,
    ExtraMissingError,
    InvalidInputError,
    LockError,
    NotFoundError,
    UnavailableError,
)

_EXIT_CODES: tuple[tuple[type[CrdtdbError], int], ...] = (
    (ConfigurationError, 2),
    (NotFoundError, 3),
    (ConflictError, 4),
    (UnavailableError, 5),
    (CertificateError, 6),
    (InvalidInputError, 2),
    (LockError, 7),
    (BackendMissingError, 1),
)

_COMMANDS = {
    "cert": ("crdtdb.cli.certs", "cert"),
    "node": ("crdtdb.cli.node", "node"),
    "demo": ("crdtdb.cli.demo.command", "demo"),
    "status": ("crdtdb.cli.status", "status"),
    "stability": ("crdtdb.cli.cluster", "stability"),
    "audit": ("crdtdb.cli.cluster", "audit"),
    "retire": ("crdtdb.cli.cluster", "retire"),
    "backup": ("crdtdb.cli.cluster", "backup"),
    "restore": ("crdtdb.cli.cluster", "restore"),
    "watch": ("crdtdb.cli.watch", "watch"),
    "locks": ("crdtdb.cli.locks", "locks"),
    "lock": ("crdtdb.cli.locks", "lock"),
    "get": ("crdtdb.cli.documents", "get"),
    "put": ("crdtdb.cli.documents", "put"),
    "delete": ("crdtdb.cli.documents", "delete"),
    "conflicts": ("crdtdb.cli.documents", "conflicts"),
    "resolve": ("crdtdb.cli.documents", "resolve"),
    "user": ("crdtdb.cli.users", "user"),
    "access": ("crdtdb.cli.users", "access"),
    "replicate": ("crdtdb.cli.replicate", "replicate"),
    "patch": ("crdtdb.cli.queries", "patch"),
    "find": ("crdtdb.cli.queries", "find"),
    "index": ("crdtdb.cli.queries", "index"),
    "update-many": ("crdtdb.cli.queries", "update_many"),
    "delete-many": ("crdtdb.cli.queries", "delete_many"),
    "edit": ("crdtdb.cli.fields", "edit"),
    "why": ("crdtdb.cli.fields", "why"),
    "schema": ("crdtdb.cli.fields", "schema"),
    "import": ("crdtdb.cli.transfer", "import_documents"),
    "export": ("crdtdb.cli.transfer", "export"),
}


class _Commands(click.Group):
    """Imports a command when it is asked for: `crdtdb --help` shouldn't wait for what it doesn't use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        from importlib import import_module

        module, name = _COMMANDS[cmd_name]
        try:
            command: click.Command = getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            raise ExtraMissingError.of(error, f"crdtdb {cmd_name}", "node") from error
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "CRDTDB"})
@click.version_option(__version__, prog_name="crdtdb")
def commands() -> None:
    """A replicated document database.

    \b
    Begin with:  crdtdb demo
    Then:        crdtdb cert authority --dir certs
                 crdtdb cert node n1 --dir certs --host 127.0.0.1
                 crdtdb cert client ada --dir certs
                 crdtdb node --name n1 --data n1 --certs certs
                 crdtdb status --certs certs --as ada
    """


def main() -> None:
    """Run the command; end the process with its exit code."""
    try:
        commands.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except (CrdtdbError, BaseExceptionGroup) as error:
        first = next(_leaves(error))
        if not isinstance(first, CrdtdbError):
            raise
        click.echo(f"crdtdb: {first}", err=True)
        sys.exit(next((code for kind, code in _EXIT_CODES if isinstance(first, kind)), 1))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
