"""The HTTP client of the commands: options that all of them have, and answers that become errors."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import httpx

from crdtdb.errors import (
    CertificateError,
    ConflictError,
    CrdtdbError,
    InvalidInputError,
    LockError,
    NotFoundError,
    UnavailableError,
)
from crdtdb.security.tls import Credentials

_JSON = {"content-type": "application/json", "accept": "application/json"}


class NodeClient:
    """Talks with one node as one client. Use it in a `with`."""

    def __init__(self, url: str, certs: Path, name: str) -> None:
        """Raises CertificateError if the client's certificate can't be used."""
        self.url = url.rstrip("/")
        credentials = Credentials(certs, name)
        self.warnings = credentials.expiring()
        self._http = httpx.Client(base_url=self.url, verify=credentials.http_client(), timeout=30, trust_env=False)

    def __enter__(self) -> NodeClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, method: str, *path: str, body: Any = None, **query: Any) -> Any:
        """Send a request and return the JSON of its answer. Raises the error that the answer stands for."""
        return self._ask(method, path, body, query, 30)

    def ask_and_wait(self, method: str, *path: str, body: Any = None) -> Any:
        """Send a request whose answer may take as long as it takes."""
        return self._ask(method, path, body, {}, None)

    def _ask(self, method: str, path: tuple[str, ...], body: Any, query: dict[str, Any], wait: float | None) -> Any:
        url = _path(path)
        content = json.dumps(body).encode() if body is not None else None
        with self._errors(method):
            answer = self._http.request(method, url, content=content, params=query, headers=_JSON, timeout=wait)
        if answer.status_code >= 400:
            raise _error(answer, path)
        return answer.json()

    def stream(self, *path: str) -> Iterator[bytes]:
        """Yield the content of an answer as it comes. Raises the error that the answer stands for."""
        url = _path(path)
        with self._errors("GET"), self._http.stream("GET", url) as answer:
            if answer.status_code >= 400:
                answer.read()
                raise _error(answer, path)
            yield from answer.iter_bytes()

    def lines(self, method: str, *path: str, body: Any) -> Iterator[bytes]:
        """Yield the lines of an answer that lasts, as they come. Raises the error that the answer stands for."""
        url = _path(path)
        content = json.dumps(body).encode()
        with (
            self._errors(method),
            self._http.stream(method, url, content=content, headers=_JSON, timeout=None) as answer,
        ):
            if answer.status_code >= 400:
                answer.read()
                raise _error(answer, path)
            rest = b""
            for data in answer.iter_raw():
                *whole, rest = (rest + data).split(b"\n")
                yield from whole

    @contextmanager
    def _errors(self, method: str) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            if "certificate" in str(error).lower():
                raise CertificateError(
                    f"{self.url}: {error}. Is it a node of this cluster, reached by a name in its certificate?"
                ) from error
            raise UnavailableError(f"can't reach {self.url}: {error}. Is the node running? Is --url right?") from error
        except httpx.InvalidURL as error:
            raise InvalidInputError(f"--url {self.url!r}: {error}") from error
        except httpx.HTTPError as error:
            hint = " (a node speaks https)" if not self.url.startswith("https:") else ""
            failure = UnavailableError(f"{self.url}: the answer didn't come: {error or type(error).__name__}{hint}")
            failure.maybe_done = method != "GET"
            raise failure from error


def _path(names: tuple[str, ...]) -> str:
    try:
        return "/" + "/".join(quote(name, safe="") for name in names)
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{'/'.join(names)!r} isn't UTF-8, as names and ids are") from error


def _error(answer: httpx.Response, path: tuple[str, ...]) -> CrdtdbError:
    try:
        found = answer.json()
        word, reason = found["error"], found["reason"]
    except (ValueError, KeyError, TypeError):
        return UnavailableError(f"the answer {answer.status_code} isn't a node's: {answer.text[:200]}")
    what = "/".join(path)
    if answer.status_code == 409:
        error = ConflictError(what, None, ())
        named = answer.request.method != "PUT" or "rev" in answer.request.url.params
        error.args = (
            f"{what}: the revision that was named isn't the current one (any more); read it again: crdtdb get"
            if named
            else f"{what} is there already: --rev names the revision to replace; crdtdb get shows it",
        )
        return error
    if word in ("locked", "lock_lost"):
        return LockError(reason)
    kinds: dict[int, type[CrdtdbError]] = {
        401: CertificateError,
        404: NotFoundError,
        503: UnavailableError,
    }
    if reason == "Database does not exist." and answer.request.method == "PUT":
        reason = f"there is no collection {path[0]!r} yet: --create makes it"
    if answer.status_code == 403 and "crdtdb cert" in reason:
        return CertificateError(f"{what}: {reason}")
    kind = kinds.get(answer.status_code, InvalidInputError if answer.status_code < 500 else CrdtdbError)
    return kind(f"{what}: {reason}" if word != "unauthorized" else reason)


URL_OPTION = click.option(
    "--url", default="https://127.0.0.1:7101", show_default=True, envvar="CRDTDB_URL", help="The node's URL."
)
CERTS_OPTION = click.option(
    "--certs",
    type=click.Path(path_type=Path),
    default=Path("certs"),
    show_default=True,
    envvar="CRDTDB_CERTS",
    help="The folder with ca.pem and the client's certificate.",
)
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")


def with_node(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name a node and who asks, and pass it a `NodeClient` as its first argument."""

    @URL_OPTION
    @CERTS_OPTION
    @click.option("--as", "who", envvar="CRDTDB_AS", required=True, help="The client: NAME of NAME.pem and NAME.key.")
    @JSON_OPTION
    @functools.wraps(command)
    def wrapped(url: str, certs: Path, who: str, **others: Any) -> None:
        with NodeClient(url, certs, who) as client:
            for warning in client.warnings:
                click.echo(f"warning: {warning}", err=True)
            command(client, **others)

    return wrapped


def show_json(value: Any) -> None:
    """Print JSON for programs."""
    click.echo(json.dumps(value, ensure_ascii=False))


def read_json(text: str) -> Any:
    """Read JSON from an argument, from standard input for '-', from a file for '@FILE'."""
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text()
        except OSError as error:
            raise InvalidInputError(f"can't read {text[1:]}: {error.strerror}") from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInputError(f'not JSON: {error}. A document is written as \'{{"title": "x"}}\'') from error
