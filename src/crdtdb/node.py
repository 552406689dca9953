"""A node: the database, its cluster and its HTTP API in one process, put together and taken apart again."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom

import anyio
from anyio.abc import TaskStatus

from crdtdb.cluster.access import Access, Revocations
from crdtdb.cluster.certificates import cluster_of
from crdtdb.cluster.engine import Engine, NodeIdentity
from crdtdb.cluster.runtime import Runtime
from crdtdb.cluster.status import ClusterStatus
from crdtdb.cluster.tls import Credentials, certified_by
from crdtdb.config import NodeConfig, check, host_and_port
from crdtdb.couchdb import Checkpoints
from crdtdb.database import Database
from crdtdb.database import open as open_database
from crdtdb.errors import CertificateError
from crdtdb.gossip import GossipConfig
from crdtdb.http.app import make_app
from crdtdb.http.server import HTTPServer
from crdtdb.limits import SHUTDOWN_SECONDS_MAX
from crdtdb.wallclock import monotonic_seconds, wall_milliseconds

_log = logging.getLogger("crdtdb.node")
_LOOK_SECONDS = 1.0
_WARN_AGAIN_SECONDS = 86_400.0


Started = Callable[[str, str], None]
"""Told the gossip address and the URL once both ports are open."""


def run_node(config: NodeConfig, started: Started | None = None) -> None:
    """Run a node until SIGINT or SIGTERM.

    Raises ConfigurationError, CertificateError and what opening the store raises, before anything is served; StoreError
    when the disk fails later.
    """
    check(config)
    folder = Path(config.certs)
    credentials = Credentials(folder, config.name)
    cluster = cluster_of(credentials.authorities[0])
    certified = credentials.certified
    if certified is None or certified.role != "node" or certified.name != config.name:
        raise CertificateError(
            f"{credentials.certificate} isn't the certificate of a node {config.name!r}: make one with "
            f"`crdtdb cert node {config.name} --dir {folder}`"
        )
    with open_database(config.data, durability=config.durability) as database:
        for name, one in config.collections.items():
            database.collection(name, resolver=one.resolver)
        anyio.run(_serve, config, credentials, cluster, database, started, backend_options={"use_uvloop": True})


async def _serve(
    config: NodeConfig,
    credentials: Credentials,
    cluster: str,
    database: Database,
    started: Started | None,
) -> None:
    host, port = host_and_port("--listen", config.listen)
    listener = await Runtime.listen(host, port)
    address = config.advertise or f"{_bracketed(host)}:{listener.extra(anyio.abc.SocketAttribute.local_port)}"  # noqa: S610
    identity = NodeIdentity(cluster, config.name, address, config.join, config.reach, config.offline, config.rejoin)
    checkpoints = Checkpoints(database.store, config.checkpoint_ttl)
    gossip = GossipConfig(
        member_absence_max=config.member_absence_max or None,
        tombstone_grace=config.tombstone_grace,
        audit_interval=config.audit_interval,
    )
    access = Access(Revocations(database.store), credentials.signed_by_authority, wall_milliseconds)
    engine = Engine(
        database, identity, gossip, SystemRandom(), monotonic_seconds(), checkpoints.told, access.why_refused
    )
    runtime = Runtime(engine, credentials)
    status = ClusterStatus(cluster, engine, database.store, access, credentials, checkpoints)
    http_host, http_port = host_and_port("--http", config.http)
    app = make_app(database, status, cors_origins=config.cors, attachment_bytes_max=config.attachment_bytes_max)
    server = HTTPServer(app, http_host, http_port, credentials.http_server, certified_by)
    url = f"https://{_bracketed(http_host)}:{server.port}"
    why = database.store.identity.why
    _log.info("node %s of cluster %s: gossip on %s, HTTP on %s", config.name, cluster, address, url)
    if why is not None:
        _log.info("writing as a new actor: %s", why)
    async with anyio.create_task_group() as tasks:
        stopped = anyio.Event()
        await tasks.start(_watch_signals, runtime, server, stopped, tasks.cancel_scope)
        tasks.start_soon(runtime.run, listener)
        tasks.start_soon(_serve_http, server, stopped)
        tasks.start_soon(_watch_certificates, credentials, access, server)
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await anyio.sleep(0.005)
        if started is not None:
            started(address, url)
    _log.info("node %s has stopped", config.name)


async def _serve_http(server: HTTPServer, stopped: anyio.Event) -> None:
    await server.serve()
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
        server.part_with(access.why_refused)
        if monotonic_seconds() >= next_warning:
            next_warning = monotonic_seconds() + _WARN_AGAIN_SECONDS
            for sentence in credentials.expiring():
                _log.warning("%s: `crdtdb cert rotate`, and bring the new files into its place", sentence)
        await anyio.sleep(_LOOK_SECONDS)


async def _watch_signals(
    runtime: Runtime,
    server: HTTPServer,
    stopped: anyio.Event,
    everything: anyio.CancelScope,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            _log.info("stopping on %s", signal.Signals(number).name)
            break
    with anyio.move_on_after(SHUTDOWN_SECONDS_MAX - 1):
        server.stop()
        await runtime.stop()
        await stopped.wait()
    everything.cancel()  # whatever didn't end by itself


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
