"""A node: the database, its cluster and its HTTP API in one process, put together and taken apart again."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import SystemRandom

import anyio

from crdtdb import aio, forks
from crdtdb.aio.notifier import Waiter, ringing
from crdtdb.clock import monotonic_seconds, wall_milliseconds
from crdtdb.cluster_port import WHO
from crdtdb.config import NodeConfig, check, host_and_port
from crdtdb.couchdb import Checkpoints
from crdtdb.database import Database
from crdtdb.database import open as open_database
from crdtdb.errors import CertificateError, ExtraMissingError, LockError
from crdtdb.gossip import GossipConfig
from crdtdb.javascript import Scripts
from crdtdb.limits import SHUTDOWN_SECONDS_MAX
from crdtdb.locks.leases import Lease, Stage

try:
    from crdtdb.cluster.engine.engine import Engine
    from crdtdb.cluster.engine.node_identity import HostPort, NodeIdentity
    from crdtdb.cluster.runtime import Runtime
    from crdtdb.cluster.status import ClusterStatus
    from crdtdb.couchdb.replication.scheduler import Replicator
    from crdtdb.http.app import make_app
    from crdtdb.http.health import health_app
    from crdtdb.http.server import HTTPServer
    from crdtdb.security.admission import raise_descriptor_limit
    from crdtdb.security.certificates import cluster_of
    from crdtdb.security.revocation import Access, Revocations
    from crdtdb.security.tls import Credentials, certified_by
except ModuleNotFoundError as error:
    raise ExtraMissingError.of(error, "a node", "node") from error

_log = logging.getLogger("crdtdb.node")
_REPLICATION_TTL = 15.0
_LOOK_SECONDS = 1.0
_WARN_AGAIN_SECONDS = 86_400.0


Started = Callable[[str, str], None]
"""Told the gossip address and the URL once both ports are open."""


class Node:
    """A node that runs in this process. Use `serving`."""

    def __init__(
        self, database: Database, status: ClusterStatus, address: str, url: str, health_port: int | None
    ) -> None:
        self.database = aio.Database(database)
        """Its collections, for `await`."""
        self.cluster = status
        """What it says of its cluster."""
        self.address, self.url = address, url
        self.health_port = health_port
        """The port of the health listener, None if there is none."""
        forks.own(self)

    @asynccontextmanager
    async def lock(self, name: str, ttl: float = 30.0, wait: float = 60.0) -> AsyncIterator[Lease]:
        """Hold a lock of the cluster during the `async with` block.

        It is waited for `wait` seconds at most, and renewed until the block ends. If this process is gone, others may
        have it `ttl` seconds later, from 1 to 300. If it is lost the block is cancelled, and LockError raised; also if it isn't
        to be had in time. What the block does elsewhere should carry the lease's `token`, and be refused there if a higher
        one was seen: a write that is on its way can't be stopped. Raises InvalidInputError.
        """
        desk, waiter = self.cluster.locks, Waiter()
        lease = desk.want(name, ttl, wait, self.cluster.name, True, ringing(waiter))
        try:
            await _until(lease, waiter, Stage.HELD)
            if _is_over(lease):
                raise LockError(f"could not acquire lock {name!r} within {wait} s: {lease.why}")
            raised: Exception | None = None
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_when_lost, lease, waiter, tasks.cancel_scope)
                try:
                    yield lease
                except Exception as error:  # noqa: BLE001 - so that it isn't wrapped on its way out
                    raised = error
                tasks.cancel_scope.cancel()
            if raised is not None:
                raise raised
            if _is_over(lease):
                raise LockError(f"the lock {name!r} was lost: {lease.why}")
        finally:
            desk.release(lease)


def _is_over(lease: Lease) -> bool:
    return lease.stage is Stage.OVER


async def _until(lease: Lease, waiter: Waiter, stage: Stage) -> None:
    while True:
        waiter.arm()
        if lease.stage in (stage, Stage.OVER):
            return
        await waiter.wait(_LOOK_SECONDS)


async def _cancel_when_lost(lease: Lease, waiter: Waiter, scope: anyio.CancelScope) -> None:
    await _until(lease, waiter, Stage.OVER)
    scope.cancel()


def run_node(config: NodeConfig, started: Started | None = None) -> None:
    """Run a node until SIGINT or SIGTERM.

    Raises ConfigurationError, CertificateError and what opening the store raises, before anything is served; StoreError
    when the disk fails later.
    """
    raise_descriptor_limit()
    anyio.run(_until_signalled, config, started, backend_options={"use_uvloop": True})


async def _until_signalled(config: NodeConfig, started: Started | None) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with serving(config) as node:
            if started is not None:
                started(node.address, node.url)
            async for number in signals:
                _log.info("stopping on %s", signal.Signals(number).name)
                break
    _log.info("node %s has stopped", config.name)


@asynccontextmanager
async def serving(config: NodeConfig) -> AsyncIterator[Node]:
    """Run a node in this process for as long as the `async with` block lasts. For asyncio.

    Raises ConfigurationError, CertificateError and what opening the store raises, before anything is served; when the disk
    fails later the block is cancelled, and StoreError raised in an ExceptionGroup.
    """
    check(config)
    folder = Path(config.certs)
    credentials = Credentials(folder, config.name)
    certified = credentials.certified
    if certified is None or certified.role != "node" or certified.name != config.name:
        raise CertificateError(
            f"{credentials.certificate} isn't the certificate of a node {config.name!r}: make one with "
            f"`crdtdb cert node {config.name} --dir {folder}`"
        )
    with open_database(config.data, durability=config.durability) as database:
        for name, one in config.collections.items():
            database.collection(name, resolver=one.resolver)
        async with _serving(config, credentials, database) as node:
            yield node


@asynccontextmanager
async def _serving(config: NodeConfig, credentials: Credentials, database: Database) -> AsyncIterator[Node]:
    """Put the parts together, and take them apart again."""
    store, cluster = database.store, cluster_of(credentials.authorities[0])
    host, port = host_and_port("--listen", config.listen)
    listener = await Runtime.listen(host, port)
    address = config.advertise or f"{_bracketed(host)}:{listener.extra(anyio.abc.SocketAttribute.local_port)}"  # noqa: S610
    identity = NodeIdentity(cluster, config.name, address, config.join, config.reach, config.offline, config.rejoin)
    checkpoints = Checkpoints(store, config.checkpoint_ttl)
    gossip = GossipConfig(
        member_absence_max=config.member_absence_max or None,
        tombstone_grace=config.tombstone_grace,
        audit_interval=config.audit_interval,
        history_retention=config.history_retention or None,
    )
    access = Access(Revocations(store), credentials.signed_by_authority, wall_milliseconds)
    around = HostPort(checkpoints.told, access.why_refused)
    engine = Engine(database, identity, gossip, SystemRandom(), monotonic_seconds(), around)
    runtime = Runtime(engine, credentials)
    status = ClusterStatus(cluster, engine, store, access, credentials, checkpoints)
    http_host, http_port = host_and_port("--http", config.http)
    scripts = Scripts()
    app = make_app(
        database,
        status,
        cors_origins=config.cors,
        attachment_bytes_max=config.attachment_bytes_max,
        request_bytes_max=config.request_bytes_max,
        scripts=scripts,
        logins=config.logins,
    )
    replicator = app.state.replicator = Replicator(database, cluster, config.name, app, lambda who: {WHO: who})
    server = HTTPServer(app, http_host, http_port, credentials.http_server, certified_by)
    health = None
    if config.health:
        health = HTTPServer(
            health_app(status, with_metrics=config.health_metrics), *host_and_port("--health", config.health)
        )
        _log.info("health on port %d, without a certificate", health.port)
    servers = [server] if health is None else [server, health]
    status.also_measured += [runtime.measured, server.measured]
    url = f"https://{_bracketed(http_host)}:{server.port}"
    _log.info("node %s of cluster %s: gossip on %s, HTTP on %s", config.name, cluster, address, url)
    if store.identity.why is not None:
        _log.info("writing as a new actor: %s", store.identity.why)
    async with anyio.create_task_group() as tasks:
        stopped = anyio.Event()
        tasks.start_soon(runtime.run, listener)
        tasks.start_soon(_serve_http, servers, stopped)
        tasks.start_soon(_watch_certificates, credentials, access, server)
        while not all(one.started for one in servers):  # noqa: ASYNC110 - uvicorn has no event for it
            await anyio.sleep(0.005)
        node = Node(database, status, address, url, health.port if health is not None else None)
        tasks.start_soon(replicator.run, lambda name: node.lock(name, _REPLICATION_TTL, wait=_REPLICATION_TTL))
        try:
            yield node
        finally:
            if store.failure is None:
                with anyio.move_on_after(SHUTDOWN_SECONDS_MAX - 1, shield=True):
                    app.state.bell.stop()
                    for one in servers:
                        one.stop()
                    await runtime.stop()
                    await stopped.wait()
            scripts.close()
            tasks.cancel_scope.cancel()  # whatever didn't end by itself


async def _serve_http(servers: list[HTTPServer], stopped: anyio.Event) -> None:
    async with anyio.create_task_group() as tasks:
        for server in servers:
            tasks.start_soon(server.serve)
    stopped.set()


async def _watch_certificates(credentials: Credentials, access: Access, server: HTTPServer) -> None:
    """Take over new certificates, part with clients whose certificates count no more, and say what expires soon."""
    next_warning = monotonic_seconds()
    while True:
        try:
            if credentials.refresh():
                _log.info("new certificates: %s and %s are in use", credentials.certificate, credentials.authority)
                next_warning = monotonic_seconds()
        except CertificateError as error:
            _log.error("the new certificates can't be used, the old ones stay: %s", error)
        server.disconnect(access.why_refused)
        if monotonic_seconds() >= next_warning:
            next_warning = monotonic_seconds() + _WARN_AGAIN_SECONDS
            for sentence in credentials.expiring():
                _log.warning("%s: `crdtdb cert rotate`, and bring the new files into its place", sentence)
        await anyio.sleep(_LOOK_SECONDS)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
