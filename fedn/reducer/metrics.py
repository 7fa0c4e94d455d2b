"""Metrics for Prometheus: counted from events and requests, measured when asked. Nothing is decided by them."""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fedn.protocol.rest import EventView, WorkerGroupView

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ROUND_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_FINAL_STATES = frozenset({"updated", "late", "refused", "failed", "disconnected"})

Gauges = Callable[[], dict[str, tuple[str, float]]]
"""Name to (help, value) of what is measured when asked."""


class Metrics:
    """Thread-safe. One a reducer; nothing global."""

    content_type = _CONTENT_TYPE

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._rounds = Counter("fedn_rounds_committed", "Rounds committed to the trail", registry=self.registry)
        self._round_s = Histogram(
            "fedn_round_duration_seconds", "Wall time of rounds", buckets=_ROUND_BUCKETS_S, registry=self.registry
        )
        self._updates = Counter(
            "fedn_client_results",
            "What became of clients' tasks, by the ledger's final states",
            ["state"],
            registry=self.registry,
        )
        self._sessions = Counter("fedn_sessions", "Sessions, by what happened", ["what"], registry=self.registry)
        self._requests = Counter(
            "fedn_http_requests", "REST requests answered", ["method", "route", "status"], registry=self.registry
        )
        self._request_s = Histogram("fedn_http_request_duration_seconds", "Time to answer", registry=self.registry)
        self._bytes = Counter("fedn_http_bytes", "Bytes of bodies", ["direction"], registry=self.registry)
        self.relayed_worker_streams = Gauge(
            "fedn_relayed_worker_streams", "Workers' streams that go through the reducer", registry=self.registry
        )
        self.relayed_worker_held_bytes = Gauge(
            "fedn_relayed_worker_held_bytes", "Of these, read and not yet handed on", registry=self.registry
        )
        self.relayed_worker_bytes = Counter(
            "fedn_relayed_worker_bytes", "Handed on for workers, both ways", registry=self.registry
        )

    def add_gauges(self, gauges: Gauges) -> None:
        self.registry.register(_Measured(gauges))

    def add_worker_groups(self, groups: Callable[[], Sequence[WorkerGroupView]]) -> None:
        self.registry.register(_WorkerGroups(groups))

    def render(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)

    def note_event(self, event: EventView) -> None:
        """A listener of the event log."""
        match event.kind:
            case "round_committed":
                self._rounds.inc()
                total_ms = event.fields.get("total_ms")
                if isinstance(total_ms, int | float):
                    self._round_s.observe(total_ms / 1e3)
            case "ledger_changed" if event.fields.get("state") in _FINAL_STATES:
                self._updates.labels(str(event.fields["state"])).inc()
            case "session_started" | "session_finished" | "session_failed" | "session_stopped":
                self._sessions.labels(event.kind.removeprefix("session_")).inc()

    def note_request(
        self, method: str, route: str, status: int, seconds: float, received_bytes: int, sent_bytes: int
    ) -> None:
        """A request was answered. `route` is the rule, never the path: few values."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_s.observe(seconds)
        self._bytes.labels("received").inc(received_bytes)
        self._bytes.labels("sent").inc(sent_bytes)


class _Measured(Collector):
    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        for name, (text, value) in self._gauges().items():
            yield GaugeMetricFamily(name, text, value=value)

    def describe(self) -> Iterable[Metric]:
        return ()


class _WorkerGroups(Collector):
    """Counted where groups are at home, and summed up here over homes."""

    def __init__(self, groups: Callable[[], Sequence[WorkerGroupView]]) -> None:
        self._groups = groups

    def collect(self) -> Iterable[Metric]:
        attached = GaugeMetricFamily("fedn_worker_group_attached", "Workers with a stream", labels=["group"])
        spooled = GaugeMetricFamily("fedn_worker_group_spooled_bytes", "Not acknowledged", labels=["group"])
        messages = CounterMetricFamily("fedn_worker_group_messages", "Relayed between workers", labels=["group"])
        sent = CounterMetricFamily("fedn_worker_group_bytes", "Bytes of these", labels=["group"])
        again = CounterMetricFamily("fedn_worker_group_repeated_bytes", "Sent again after breaks", labels=["group"])
        for group in self._groups():
            attached.add_metric([group.name], group.attached)
            spooled.add_metric([group.name], group.traffic.spooled_bytes)
            messages.add_metric([group.name], group.traffic.sent_messages)
            sent.add_metric([group.name], group.traffic.sent_bytes)
            again.add_metric([group.name], group.traffic.repeated_bytes)
        return attached, spooled, messages, sent, again

    def describe(self) -> Iterable[Metric]:
        return ()
