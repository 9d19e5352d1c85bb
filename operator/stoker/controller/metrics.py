"""What the operator tells Prometheus."""

from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stoker.controller.pool_metrics import PoolMetrics

# A time of creation beside each series says nothing here and doubles the page.
disable_created_metrics()  # type: ignore[no-untyped-call]

_QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 7 * 24 * 3600)


class Metrics:
    """Every metric of the operator, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.leader = Gauge("stoker_leader", "1 while this replica leads, else 0.", registry=self.registry)
        self.queue_depth = Gauge("stoker_queue_depth", "Keys that wait for a worker.", registry=self.registry)
        self.queue_delayed = Gauge("stoker_queue_delayed", "Keys that are due later.", registry=self.registry)
        self.loop_lag = Gauge(
            "stoker_event_loop_lag_seconds", "Longest delay of the event loop since the last scrape.",
            registry=self.registry,
        )  # fmt: skip
        self.queue_seconds = Histogram(
            "stoker_queue_seconds", "How long a key waited for a worker.", buckets=_QUICK, registry=self.registry
        )
        self.reconcile_seconds = Histogram(
            "stoker_reconcile_seconds",
            "From taking a key to having done its plan.",
            ("kind",),
            buckets=_QUICK,
            registry=self.registry,
        )
        self.reconcile_failures = Counter(
            "stoker_reconcile_failures", "Plans that could not be done and are tried again.", ("kind",),
            registry=self.registry,
        )  # fmt: skip
        self.api_requests = Counter(
            "stoker_api_requests", "Requests to the API server; code 0: no answer.", ("verb", "resource", "code"),
            registry=self.registry,
        )  # fmt: skip
        self.api_seconds = Histogram(
            "stoker_api_request_seconds", "Time of requests to the API server.", ("verb",), buckets=_QUICK,
            registry=self.registry,
        )  # fmt: skip
        self.phase_seconds = Histogram(
            "stoker_job_phase_seconds", "Time that finished jobs spent in each phase.", ("phase",), buckets=_LONG,
            registry=self.registry,
        )  # fmt: skip
        self.jobs_finished = Counter(
            "stoker_jobs_finished", "Jobs that ended, by phase and reason.", ("phase", "reason"), registry=self.registry
        )
        self.questions = Counter(
            "stoker_questions", "Questions to stores and registries, by kind and outcome.", ("question", "outcome"),
            registry=self.registry,
        )  # fmt: skip
        self.pools = PoolMetrics()
        self.registry.register(self.pools)
        self._jobs = _JobsByPhase()
        self.registry.register(self._jobs)
        self._requests: dict[tuple[str, str, int], Counter] = {}
        self._verbs: dict[str, Histogram] = {}

    def api_request(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """The client's observer. The labelled children are kept: looking them up costs more than counting."""
        key = (verb, resource, code)
        if (counter := self._requests.get(key)) is None:
            counter = self._requests[key] = self.api_requests.labels(verb, resource, str(code))
        counter.inc()
        if verb == "WATCH":
            return
        if (histogram := self._verbs.get(verb)) is None:
            histogram = self._verbs[verb] = self.api_seconds.labels(verb)
        histogram.observe(seconds)

    def count_jobs(self, phases: Callable[[], Iterable[str]]) -> None:
        """Report jobs by phase, counted anew at each scrape."""
        self._jobs.phases = phases


class _JobsByPhase(Collector):
    def __init__(self) -> None:
        self.phases: Callable[[], Iterable[str]] = tuple

    def describe(self) -> Iterator[Metric]:
        yield self._family()

    def collect(self) -> Iterator[Metric]:
        family = self._family()
        for phase, count in sorted(Count(self.phases()).items()):
            family.add_metric((phase,), count)
        yield family

    @staticmethod
    def _family() -> GaugeMetricFamily:
        return GaugeMetricFamily("stoker_jobs", "TrainingJobs by phase.", labels=("phase",))
