"""What Prometheus may ask of a combiner. One registry for each combiner, none for the process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300, 1800, 7200)


class CombinerMetrics:
    """Counters that the parts of a combiner keep up."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.clients = Gauge("fedn_combiner_clients", "Attached clients", registry=self.registry)
        self.rounds = Counter("fedn_combiner_rounds", "Rounds that ended", ["reason"], registry=self.registry)
        self.round_seconds = Histogram(
            "fedn_combiner_round_seconds", "From start to result", buckets=_SECONDS, registry=self.registry
        )
        self.fold_seconds = Counter("fedn_combiner_fold_seconds", "Time spent in sums", registry=self.registry)
        self.updates = Counter("fedn_combiner_updates", "Updates that count", registry=self.registry)
        self.refusals = Counter("fedn_combiner_refusals", "Updates refused", ["code"], registry=self.registry)
        self.received_bytes = Counter(
            "fedn_combiner_received_bytes", "Bytes of pieces from clients", registry=self.registry
        )
        self.sent_bytes = Counter("fedn_combiner_sent_bytes", "Bytes sent to clients", registry=self.registry)
        self.uploads_waiting = Gauge("fedn_combiner_uploads_waiting", "Without a grant", registry=self.registry)
        self.upload_memory_free = Gauge(
            "fedn_combiner_upload_memory_free_bytes", "Credit that is left", registry=self.registry
        )
        self.workers = Gauge("fedn_combiner_workers", "Attached workers of groups at home here", registry=self.registry)
        self.worker_messages = Counter(
            "fedn_combiner_worker_messages", "Messages handed from worker to worker", registry=self.registry
        )
        self.worker_bytes = Counter("fedn_combiner_worker_bytes", "Bytes of these", registry=self.registry)
        self.worker_repeated_bytes = Counter(
            "fedn_combiner_worker_repeated_bytes",
            "Bytes between workers that came or went again after a break",
            registry=self.registry,
        )
        self.worker_spooled_bytes = Gauge(
            "fedn_combiner_worker_spooled_bytes", "Not acknowledged by their receivers", registry=self.registry
        )
        self.worker_streams_forwarded = Gauge(
            "fedn_combiner_worker_streams_forwarded", "Workers handed on to homes elsewhere", registry=self.registry
        )
        self.worker_streams_through_reducer = Gauge(
            "fedn_combiner_worker_streams_through_reducer",
            "Of these, through the reducer: the home is not reached from here",
            registry=self.registry,
        )
        self.kept_updates = Gauge("fedn_combiner_kept_updates", "In the update store", registry=self.registry)
        self.kept_bytes = Gauge("fedn_combiner_kept_updates_bytes", "Of the update store", registry=self.registry)
