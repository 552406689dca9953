"""/_metrics: what a node counts and measures, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crdtdb.cluster_port import ClusterPort, Metric
from crdtdb.http.context import cluster_of
from crdtdb.threads import HOUSEKEEPING


class _Node(Collector):
    """Asks the node when it is scraped: nothing is counted twice, and what isn't read costs nothing."""

    def __init__(self, cluster: ClusterPort) -> None:
        self._cluster = cluster

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield each metric with all its labels."""
        families: dict[str, list[Metric]] = {}
        for one in self._cluster.measured():
            families.setdefault(one.name, []).append(one)
        for name, several in families.items():
            first = several[0]
            family = (CounterMetricFamily if first.counts else GaugeMetricFamily)(
                f"crdtdb_{name}", first.help, labels=sorted(first.labels)
            )
            for one in several:
                family.add_metric([one.labels[label] for label in sorted(one.labels)], one.value)
            yield family


async def metrics(request: Request) -> Response:
    """GET /_metrics : counters and gauges of this node."""
    registry = CollectorRegistry()
    registry.register(_Node(cluster_of(request)))
    text = await HOUSEKEEPING.run(generate_latest, registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


ROUTES = [Route("/_metrics", metrics, methods=["GET"])]
