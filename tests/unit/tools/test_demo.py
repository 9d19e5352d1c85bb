"""What `make demo` says and does around the training: words on failure, an end that is always done, variables that arrive."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import lab
from tools import chart, demo, your_cluster
from tools.chart import ClusterError


def pod(name: str, *, ready: bool = False, **status: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {"metadata": {"name": name}, "status": {"phase": "Pending", "conditions": conditions, **status}}


def event(kind: str, name: str, reason: str, message: str, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
        "involvedObject": {"kind": kind, "name": name},
        "reason": reason,
        "message": message,
        **more,
    }


def test_a_pod_that_is_not_ready_is_told_with_its_events() -> None:
    waiting = {"name": "operator", "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
    events = [
        event("Pod", "a", "Scheduled", "placed", type="Normal"),
        event("Pod", "a", "FailedScheduling", "0/1 nodes: Insufficient cpu", type="Warning"),
        event("Pod", "b", "Unhealthy", "of another", type="Warning"),
    ]

    lines = chart.explain([pod("a", containerStatuses=[waiting]), pod("b", ready=True)], [], events)

    assert lines == [
        "Pod a is not ready (Pending)",
        "  container operator: ErrImagePull: not found",
        "  event FailedScheduling: 0/1 nodes: Insufficient cpu",
    ]


def test_a_claim_without_a_volume_is_told_with_its_events() -> None:
    claim = {"metadata": {"name": "data"}, "status": {"phase": "Pending"}}
    events = [event("PersistentVolumeClaim", "data", "FailedBinding", "no storage class is set", type="Normal")]

    assert chart.explain([], [claim], events) == [
        "PersistentVolumeClaim data is not ready (Pending)",
        "  event FailedBinding: no storage class is set",
    ]


class Failing:
    """A cluster in which the chart's pods never get ready."""

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        things = {"pods": [pod("stoker-operator-1")]}
        return json.dumps({"items": things.get(arguments[1], [])})

    def helm(self, *arguments: str) -> str:
        raise ClusterError("helm: context deadline exceeded")


def test_a_chart_that_does_not_come_up_says_which_pod_holds_it_up() -> None:
    with pytest.raises(ClusterError, match=r"(?s)deadline exceeded.*stoker-operator-1 is not ready"):
        chart.install(Failing(), {})


@pytest.mark.parametrize(("given", "missing"), [({"CONTEXT": "c"}, "REGISTRY"), ({"REGISTRY": "r"}, "CONTEXT")])
def test_one_variable_without_the_other_is_named(
    given: dict[str, str], missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("CONTEXT", "REGISTRY"):
        monkeypatch.setenv(name, given.get(name, ""))

    assert demo.main() == 1
    assert f"{missing} is missing: make demo CONTEXT=" in capsys.readouterr().out


def test_a_missing_tool_is_named_with_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: "/bin/kubectl" if tool == "kubectl" else None)

    with pytest.raises(ClusterError, match=r"helm is not on PATH: install it \(https://"):
        your_cluster.reach("any")


def test_an_interrupt_ends_the_cluster_and_is_told_apart_from_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for name in ("CONTEXT", "REGISTRY", "KEEP"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("STOKER_LAB", "not-there")
    monkeypatch.setattr(demo, "announce", lambda name, progress: None)
    monkeypatch.setattr(lab, "up", interrupted)
    ended: list[str] = []
    monkeypatch.setattr(lab, "down", ended.append)

    assert demo.main() == 130
    assert ended == ["not-there"]
    assert "the demo was interrupted" in capsys.readouterr().out


def test_a_clean_up_that_fails_says_how_to_do_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    def end() -> None:
        raise ClusterError("the API server is gone")

    with pytest.raises(ClusterError, match="API server is gone"), demo.ended_by(end, "  kubectl delete it"):
        pass
    assert "kubectl delete it" in capsys.readouterr().out


def test_a_registry_without_tls_reaches_the_operator_by_its_host() -> None:
    mirror = "https://pypi.example.com/simple"
    values = your_cluster.chart_values("r.example.com:5000/team/", "1", mirror, insecure=True, volume=False)

    assert values["image"] == {"repository": "r.example.com:5000/team", "tag": "1"}
    assert values["insecureRegistries"] == ["r.example.com:5000"]
    assert values["mirrors"] == {"pypi": mirror}
    assert "storage" not in values


def test_the_variables_of_make_reach_the_script(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text("#!/bin/sh\nenv\n")
    python.chmod(0o755)
    (tmp_path / "bin" / ".ready").touch()
    given = ["KEEP=1", "CONTEXT=mine", "REGISTRY=r.example.com/x", "INSECURE_REGISTRY=1", "PYTHON_IMAGE=own/python:1"]

    said = subprocess.run(
        ["make", "demo", f"VENV={tmp_path}", *given], cwd=repository, capture_output=True, text=True, check=True
    ).stdout

    assert set(given) <= set(said.splitlines())
