"""Each namespace has storage of its own, whatever Workspaces say."""

import pytest

from stoker.api.kube import ObjectMeta
from stoker.api.workspace import Storage, Workspace, WorkspaceSpec
from stoker.core.claims import storage_claim

CHART = "s3://bucket/stoker"


def workspace(namespace: str, url: str | None, created: str = "2026-01-01T00:00:00Z") -> Workspace:
    metadata = ObjectMeta(name="default", namespace=namespace, creation_timestamp=created)
    return Workspace(metadata=metadata, spec=WorkspaceSpec(storage=Storage(url=url) if url else None))


def outcome(namespace: str, *workspaces: Workspace, chart: str = CHART) -> str:
    claim = storage_claim(namespace, workspaces, chart)
    return claim.reason or claim.url


def test_without_a_workspace_the_chart_decides() -> None:
    assert (
        f"{CHART}/team"
        == outcome("team")
        == outcome("team", workspace("team", None))
        == outcome("team", chart=CHART + "/")
    )
    assert "StorageNotConfigured" == outcome("team", chart="")


@pytest.mark.parametrize(
    "url",
    ["s3://own", "s3://own/x/", "s3://bucket/elsewhere", "s3://bucket/stoker2", f"{CHART}/team", f"{CHART}/team/sub"],
)
def test_a_place_of_ones_own_is_granted(url: str) -> None:
    assert url.rstrip("/") == outcome("team", workspace("team", url))


@pytest.mark.parametrize(
    "url",
    [CHART, "s3://bucket", "s3://bucket/", f"{CHART}/other", f"{CHART}/other/sub", f"{CHART}/team2", f"{CHART}//other"],
)
def test_the_charts_place_is_other_namespaces_too(url: str) -> None:
    assert "StorageUrlTaken" == outcome("team", workspace("team", url))


@pytest.mark.parametrize("url", ["s3://own/x", "s3://own", "s3://own/x/y", "s3://own//x/"])
def test_of_two_that_overlap_the_older_stays(url: str) -> None:
    both = (workspace("team", url, "2026-02-01T00:00:00Z"), workspace("elder", "s3://own/x"))

    assert "StorageUrlTaken" == outcome("team", *both)
    assert "s3://own/x" == outcome("elder", *both)


def test_of_two_made_at_once_one_stays() -> None:
    both = (workspace("b", "s3://own/x"), workspace("a", "s3://own/x"))

    assert ["s3://own/x", "StorageUrlTaken"] == [outcome("a", *both), outcome("b", *both)]


def test_neighbours_in_one_bucket_do_not_overlap() -> None:
    both = (workspace("a", "s3://own/x"), workspace("b", "s3://own/xy"))

    assert ["s3://own/x", "s3://own/xy"] == [outcome("a", *both), outcome("b", *both)]


@pytest.mark.parametrize("url", ["s3://own/../bucket", "s3://own/./x", "s3://own/x?y", "s3://", "own", "s3://me@own/x"])
def test_a_url_with_two_readings_is_no_place(url: str) -> None:
    assert "StorageUrlInvalid" == outcome("team", workspace("team", url))


def test_a_refusal_names_field_value_and_fix() -> None:
    claim = storage_claim("team", [workspace("team", "s3://bucket/stoker/other")], CHART)

    for part in ("spec.storage.url", "s3://bucket/stoker/other", "choose"):
        assert part in claim.message
