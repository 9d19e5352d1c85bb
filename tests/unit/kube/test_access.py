"""Who we are at which API server, out of kubeconfig files and a pod's files."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from stoker.kube.access import Access, AccessError, from_kubeconfig, in_cluster


def kubeconfig(folder: Path, user: dict[str, Any], cluster: dict[str, Any] | None = None, **top: Any) -> Path:
    document = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster or {"server": "http://127.0.0.1:1/"}}],
        "users": [{"name": "u", "user": user}],
    } | top
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_token(tmp_path: Path) -> None:
    access = from_kubeconfig(kubeconfig(tmp_path, {"token": "secret"}))

    assert ("http://127.0.0.1:1", "secret") == (access.server, access.bearer())


def test_a_token_file_lies_beside_the_kubeconfig_and_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    access = from_kubeconfig(kubeconfig(tmp_path, {"tokenFile": "token"}))
    assert access.bearer() == "first"
    (tmp_path / "token").write_text("second\n")

    assert access.bearer() == "first"  # not more than once a minute
    assert access.bearer(fresh=True) == "second"


def test_a_token_file_that_is_away_for_a_moment_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first")
    access = Access("http://x", token_file=path)
    access.bearer()
    path.unlink()

    assert access.bearer(fresh=True) == "first"


@pytest.mark.parametrize("plugin", ["exec", "auth-provider", "username"])
def test_what_it_cannot_do_is_refused_by_name(tmp_path: Path, plugin: str) -> None:
    with pytest.raises(AccessError, match=f"logs in by {plugin}.*client certificate"):
        from_kubeconfig(kubeconfig(tmp_path, {plugin: {"command": "gcloud"}}))


def test_an_unknown_context_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="no context 'there'; it has: here"):
        from_kubeconfig(kubeconfig(tmp_path, {}), "there")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match=r"cannot read the kubeconfig .*none: No such file"):
        from_kubeconfig(tmp_path / "none")


def test_data_that_is_not_base64_is_named(tmp_path: Path) -> None:
    cluster = {"server": "https://x", "certificate-authority-data": "%%%"}
    with pytest.raises(AccessError, match=r"certificate-authority-data in the kubeconfig .* is not base64"):
        from_kubeconfig(kubeconfig(tmp_path, {}, cluster))


def test_outside_a_pod_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(os.environ, "KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(AccessError, match="give --kubeconfig PATH"):
        in_cluster(tmp_path)
