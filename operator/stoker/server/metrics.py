"""What /metrics tells: requests by route and status, time, bytes streamed, and what is going on now."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import Response

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The server's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "stoker_server_requests", "Requests answered.", ("route", "method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "stoker_server_request_seconds", "Time until the last byte of the answer.", ("route", "method"),
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.busy = Gauge("stoker_server_requests_in_progress", "Requests being answered.", registry=self.registry)
        self.api_requests = Counter(
            "stoker_server_api_requests",
            "Requests to the API server.",
            ("verb", "resource", "status"),
            registry=self.registry,
        )
        self.refused = Counter(
            "stoker_server_refusals", "Answers that are a no, by reason.", ("reason",), registry=self.registry
        )

    def observe_api(self, verb: str, resource: str, status: int, seconds: float) -> None:
        """KubeClient's observer."""
        self.api_requests.labels(verb, resource, status).inc()

    async def endpoint(self, request: Request) -> Response:
        return Response(generate_latest(self.registry), media_type="text/plain; version=0.0.4; charset=utf-8")
