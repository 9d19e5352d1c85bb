"""What the chart brings for Prometheus and Grafana asks only for what Stoker tells, and only where it is asked for."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.chart.conftest import Render, objects, one
from tools import metric_families

KINDS = {"ServiceMonitor", "PrometheusRule"}
EVERYTHING = {"metrics": {part: {"enabled": True} for part in ("serviceMonitor", "rules", "dashboard")}}


@pytest.fixture(scope="module")
def series() -> dict[str, frozenset[str]]:
    """Every series that Stoker's processes tell, with its labels."""
    return {
        name: labels
        for found in metric_families.everything().values()
        for family in found
        for name, labels in family.series.items()
    }


@pytest.fixture(scope="module")
def alerts(repository: Path) -> list[dict[str, Any]]:
    rules = yaml.safe_load((repository / "charts/stoker/files/monitoring/rules.yaml").read_text())
    return [rule for group in rules["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def dashboard(repository: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((repository / "charts/stoker/files/monitoring/pools.json").read_text())
    return found


def strangers(expression: str, series: dict[str, frozenset[str]]) -> list[str]:
    """Metrics that an expression names and nobody tells, and labels that its metrics do not have. Raises ValueError for
    what is no PromQL."""
    wrong, known = [], set[str]()
    grouped = set[str]()

    def visit(found: promql_parser.Expr) -> None:
        if isinstance(found, promql_parser.VectorSelector):
            labels = series.get(found.name or "")
            if labels is None:
                wrong.append(str(found.name))
                return
            known.update(labels)
            wrong.extend(one.name for one in found.matchers.matchers if one.name not in labels)
        if isinstance(found, promql_parser.AggregateExpr) and found.modifier is not None:
            grouped.update(found.modifier.labels)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return [*wrong, *sorted(grouped - known)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("sum by (pool) (rate(stoker_pool_node_seconds_total[5m]))", []),
        ("rate(stoker_pool_node_seconds[5m])", ["stoker_pool_node_seconds"]),
        ('stoker_leader > 0 and on (pool) stoker_nothing{pool="a"}', ["stoker_nothing"]),
        ('stoker_pool_nodes{stat="Idle"}', ["stat"]),
        ("sum by (kind) (stoker_pool_nodes)", ["kind"]),
        ("histogram_quantile(0.9, stoker_pool_node_boot_seconds_bucket)", []),
        ("sum by (le) (stoker_pool_node_boot_seconds_count)", ["le"]),
    ],
)
def test_an_expression_that_asks_for_what_nobody_tells_is_found(
    series: dict[str, frozenset[str]], expression: str, expected: list[str]
) -> None:
    assert expected == strangers(expression, series)


def test_alerts_ask_for_what_there_is(alerts: list[dict[str, Any]], series: dict[str, frozenset[str]]) -> None:
    assert {} == {rule["alert"]: wrong for rule in alerts if (wrong := strangers(rule["expr"], series))}
    assert len(alerts) == len({rule["alert"] for rule in alerts}) >= 10


def test_alerts_say_what_they_mean_and_what_to_do(
    alerts: list[dict[str, Any]], series: dict[str, frozenset[str]], repository: Path
) -> None:
    page = (repository / "docs/how-to/monitor.md").read_text()
    labels = frozenset().union(*series.values())
    for rule in alerts:
        name, told = rule["alert"], rule["annotations"]
        assert set(told) == {"summary", "description"}, name
        assert rule["labels"]["severity"] in ("info", "warning", "critical"), name
        assert len(told["description"]) > 120, f"{name} tells too little"
        # A label that is not in the result would stand there as nothing.
        used = set(re.findall(r"\$labels\.(\w+)", told["summary"] + told["description"]))
        assert used <= set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", rule["expr"])))) & labels, name
        assert f"`{name}`" in page, f"docs/how-to/monitor.md does not name {name}"


def test_alerts_tell_commands_that_exist(alerts: list[dict[str, Any]]) -> None:
    told = " ".join(" ".join(rule["annotations"]["description"].split()) for rule in alerts)

    assert {"explain", "show", "scale"} == set(re.findall(r"stoker compute (\w+)", told))


def expressions(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def test_the_dashboard_asks_for_what_there_is(dashboard: dict[str, Any], series: dict[str, frozenset[str]]) -> None:
    assert {} == {title: wrong for title, expr in expressions(dashboard) if (wrong := strangers(expr, series))}
    query = dashboard["templating"]["list"][1]["query"]["query"]
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", query).groups()  # type: ignore[union-attr]
    assert label in series[metric]


def test_the_dashboard_shows_every_metric_of_pools(
    dashboard: dict[str, Any], series: dict[str, frozenset[str]]
) -> None:
    shown = " ".join(expr for _, expr in expressions(dashboard))
    hidden = {
        family.name
        for family in metric_families.everything()["operator"]
        if family.name.startswith("stoker_pool_") and family.name not in shown
    }

    assert set() == hidden


def test_the_dashboard_is_one_that_grafana_takes(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert {"uid", "title", "schemaVersion", "time", "templating"} <= dashboard.keys()
    assert len(panels) == len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels})
    taken = set[tuple[int, int]]()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
        assert {"${datasource}"} == {one["datasource"]["uid"] for one in (panel, *panel["targets"])}
        for target in panel["targets"]:
            # A legend by a label that the expression drops is empty.
            legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert legend <= set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", target["expr"])))), panel[
                "title"
            ]


@pytest.mark.lab
def test_nothing_of_it_is_there_unasked(render: Render) -> None:
    text = render()

    assert not KINDS & {found["kind"] for found in objects(text)}
    assert "grafana_dashboard" not in text


@pytest.mark.lab
def test_each_pod_is_scraped_once(render: Render) -> None:
    """A second Service selects the operator's pods too."""
    text = render({"metrics": {"serviceMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prom"}}}})
    monitor = one(text, "ServiceMonitor", "stoker")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    services = {
        found["metadata"]["name"]: [port["name"] for port in found["spec"]["ports"]]
        for found in objects(text)
        if found["kind"] == "Service" and wanted <= found["metadata"]["labels"].items()
    }

    assert {"stoker-operator": ["metrics"], "stoker-server": ["http"]} == services
    assert [("metrics", "15s"), ("http", "15s")] == [
        (endpoint["port"], endpoint["interval"]) for endpoint in monitor["spec"]["endpoints"]
    ]
    assert "prom" == monitor["metadata"]["labels"]["release"]
    assert {"operator", "server"} == {
        one(text, "Service", name)["metadata"]["labels"][monitor["spec"]["jobLabel"]] for name in services
    }


@pytest.mark.lab
def test_the_rules_arrive_as_they_are_kept(render: Render, alerts: list[dict[str, Any]]) -> None:
    """Helm takes none of Prometheus' own templates for one of its."""
    rule = one(
        render({"metrics": {"rules": {"enabled": True, "labels": {"role": "alerts"}}}}), "PrometheusRule", "stoker"
    )

    assert alerts == [found for group in rule["spec"]["groups"] for found in group["rules"]]
    assert "alerts" == rule["metadata"]["labels"]["role"]


@pytest.mark.lab
def test_grafana_finds_the_dashboard(render: Render, dashboard: dict[str, Any]) -> None:
    config = one(render(EVERYTHING), "ConfigMap", "stoker-dashboard")

    assert "1" == config["metadata"]["labels"]["grafana_dashboard"]
    assert {"stoker-pool-metrics.json": dashboard} == {name: json.loads(text) for name, text in config["data"].items()}
