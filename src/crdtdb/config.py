"""The configuration of a node: a TOML file, the environment, and flags, each over the one before.

name = "n1"
data = "/var/lib/crdtdb"
listen = "10.0.0.1:7001"
http = "10.0.0.1:7101"
certs = "/etc/crdtdb"
join = ["10.0.0.2:7001"]

[reach]
n3 = "tunnel.local:9003"

[collections.carts]
resolver = "three_way_merge"
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec

from crdtdb.database.resolvers import RESOLVERS
from crdtdb.errors import ConfigurationError
from crdtdb.limits import ATTACHMENT_BYTES_MAX, DOCUMENT_BYTES_MAX, REQUEST_BYTES_MAX
from crdtdb.store import Durability

_HOST_AND_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:]+):([0-9]{1,5})")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s*]+")  # apps in a web view have schemes of their own
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_REQUEST_BYTES_MAX = 4 * 1024**3


class CollectionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node does with one collection."""

    resolver: str


class NodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of a node."""

    name: str = ""
    data: str = ""
    certs: str = "certs"
    listen: str = "127.0.0.1:7001"
    advertise: str = ""
    """The address that others are to dial; empty for `listen`."""
    http: str = "127.0.0.1:7101"
    health: str = ""
    """Where `/_up` is answered without TLS and without a certificate; empty for nowhere."""
    health_metrics: bool = False
    """Answer `/_metrics` there too."""
    join: tuple[str, ...] = ()
    reach: dict[str, str] = {}
    durability: Durability = "sync"
    offline: bool = False
    rejoin: bool = False
    """Come back as a new store if the others have retired this node."""
    member_absence_max: float = 0.0
    """Seconds after which a member that is away is retired; 0: only by `crdtdb retire`."""
    tombstone_grace: float = 300.0
    """Seconds that a tombstone is kept at least."""
    checkpoint_ttl: float = 30 * 86_400.0
    """Seconds for which the checkpoint of a client of CouchDB's protocol holds tombstones that it hasn't read."""
    history_retention: float = 0.0
    """Seconds after which the values of replaced revisions go; 0: at a compaction."""
    audit_interval: float = 86_400.0
    """Seconds between comparisons with a random member, in the background; 0: none."""
    log: str = "info"
    log_json: bool = False
    cors: tuple[str, ...] = ()
    """Origins of pages that may use the API from a browser, such as https://app.example."""
    logins: bool = False
    """Let users in by a name and a password, without a certificate."""
    attachment_bytes_max: int = ATTACHMENT_BYTES_MAX
    request_bytes_max: int = REQUEST_BYTES_MAX
    """How large a request's JSON may be."""
    collections: dict[str, CollectionConfig] = {}


def read_file(path: Path) -> NodeConfig:
    """Read a TOML file. Raises ConfigurationError."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), NodeConfig)
    except OSError as error:
        raise ConfigurationError(f"can't read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def check(config: NodeConfig) -> NodeConfig:
    """Return a configuration that makes sense. Raises ConfigurationError that names the setting."""
    if not config.name:
        raise ConfigurationError("a node needs a name: --name n1, CRDTDB_NODE_NAME, or `name` in the file")
    if not _NAME.fullmatch(config.name):
        raise ConfigurationError(f"--name {config.name!r}: a name has letters, digits and ._-, at most 64")
    if not config.data:
        raise ConfigurationError(
            "a node needs a place for its data: --data DIR, CRDTDB_NODE_DATA, or `data` in the file"
        )
    host_and_port("--listen", config.listen)
    host_and_port("--http", config.http)
    if config.advertise:
        host_and_port("--advertise", config.advertise)
    if config.health:
        host_and_port("--health", config.health)
    elif config.health_metrics:
        raise ConfigurationError("--health-metrics needs a listener: --health HOST:PORT, such as 127.0.0.1:7201")
    for address in config.join:
        host_and_port("--join", address)
    for name, address in config.reach.items():
        host_and_port(f"--reach {name}", address)
    for origin in config.cors:
        if not _ORIGIN.fullmatch(origin):
            raise ConfigurationError(
                f"--cors {origin!r}: an origin is scheme://host or scheme://host:port, without a path"
            )
    for setting in ("member_absence_max", "tombstone_grace", "checkpoint_ttl", "audit_interval", "history_retention"):
        if not 0 <= getattr(config, setting) < float("inf"):
            raise ConfigurationError(f"{setting} {getattr(config, setting)}: a number of seconds from 0")
    if config.attachment_bytes_max < 0:
        raise ConfigurationError(f"attachment_bytes_max {config.attachment_bytes_max}: a number of bytes from 0")
    if not DOCUMENT_BYTES_MAX <= config.request_bytes_max <= _REQUEST_BYTES_MAX:
        raise ConfigurationError(
            f"request_bytes_max {config.request_bytes_max}: a number of bytes from {DOCUMENT_BYTES_MAX}, so that any document "
            f"fits, to {_REQUEST_BYTES_MAX}, since a request is held in memory"
        )
    for name, one in config.collections.items():
        if one.resolver not in RESOLVERS:
            raise ConfigurationError(
                f"collection {name!r}: there is no resolver {one.resolver!r}, choose one of {', '.join(RESOLVERS)}"
            )
    if config.log not in ("debug", "info", "warning", "error"):
        raise ConfigurationError(f"--log {config.log!r}: choose debug, info, warning or error")
    return config


def host_and_port(setting: str, address: str) -> tuple[str, int]:
    """Return the parts of HOST:PORT; an IPv6 address stands in brackets. Raises ConfigurationError."""
    match = _HOST_AND_PORT.fullmatch(address)
    if match is None or int(match[2]) > 65_535:
        raise ConfigurationError(
            f"{setting} {address!r}: an address is HOST:PORT, such as 127.0.0.1:7001 or [::1]:7001"
        )
    return match[1].strip("[]"), int(match[2])
