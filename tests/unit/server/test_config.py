"""Settings from the environment, and what is wrong with them."""

import pytest

from stoker.server.config import BadSetting, Settings

ENV = {"STOKER_NAMESPACE": "stoker-system", "STOKER_STORAGE_URL": "s3://bucket/stoker/"}


def test_what_the_chart_sets_is_read() -> None:
    settings = Settings.from_env(
        {
            **ENV,
            "STOKER_STORAGE_ENDPOINT": "http://store:7070",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "STOKER_JOB_NAMESPACES": "a, b",
        }
    )

    assert ("s3://bucket/stoker", "http://store:7070", "us-east-1") == (
        settings.storage_url, settings.options.endpoint, settings.options.region,
    )  # fmt: skip
    assert settings.serves("a")
    assert settings.serves("b")
    assert not settings.serves("c")
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STOKER_NAMESPACE", ""), ("STOKER_STORAGE_URL", "file:///data"), ("STOKER_STORAGE_URL", "s3://"),
        ("STOKER_STORAGE_CONDITIONAL_WRITES", "maybe"), ("STOKER_UPLOADS", "0"), ("STOKER_SNAPSHOT_BYTES", "5G"),
    ],
)  # fmt: skip
def test_a_bad_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=name):
        Settings.from_env({**ENV, name: value})
