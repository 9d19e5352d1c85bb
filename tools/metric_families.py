"""Every metric of Stoker's processes, read off the registries that they serve at /metrics, and the page that lists them."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from stoker.controller.metrics import Metrics as OperatorMetrics
from stoker.server.metrics import Metrics as ServerMetrics

#: What the name of a series has more than that of its family, by type.
_ENDINGS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. name: as queries have it, for a histogram without its ending."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def series(self) -> dict[str, frozenset[str]]:
        """Names of series as they are scraped, with their labels."""
        if self.kind != "histogram":
            return {self.name: frozenset(self.labels)}
        return {
            f"{self.name}{ending}": frozenset((*self.labels, *(("le",) if ending == "_bucket" else ())))
            for ending in _ENDINGS["histogram"]
        }


def families(registry: CollectorRegistry) -> Iterator[Family]:
    """The families of a registry, also those that have no series yet."""
    # The library tells the labels of a family only where it has series; a process that has just started has few.
    for collector in registry._collector_to_names:
        for found in collector.describe():
            labels = getattr(found, "_labelnames", None) or getattr(collector, "_labelnames", ())
            yield _family(found, tuple(labels))


def _family(found: Metric, labels: tuple[str, ...]) -> Family:
    ending = _ENDINGS[found.type][0] if found.type != "histogram" else ""
    return Family(f"{found.name}{ending}", found.type, labels, found.documentation)


def everything() -> dict[str, list[Family]]:
    """By process, in the order of their names."""
    registries = {"operator": OperatorMetrics().registry, "server": ServerMetrics().registry}
    return {part: sorted(families(one), key=lambda family: family.name) for part, one in registries.items()}


def page() -> str:
    """The reference page."""
    told = {
        "operator": "Port 8081. Metrics that begin with `stoker_pool_` come from the replica that leads, and no others do; "
        "a deleted pool's go with it.",
        "server": "Port 8080.",
    }
    lines = [
        "# Metrics",
        "",
        "What `GET /metrics` of each part tells Prometheus; how to collect it is in [monitor](../how-to/monitor.md). This page is made",
        "from the registries themselves. A histogram has the series `_bucket`, `_sum` and `_count`. Seconds are seconds, ratios are 0 to 1.",
    ]
    for part, found in everything().items():
        lines += ["", f"## The {part}", "", told[part], "", "| metric | type | labels | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.meaning} |"
            for one in found
        ]
    return "\n".join([*lines, ""])
