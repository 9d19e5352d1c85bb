"""An Environment says what the registry says of its image, for each platform that is needed."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from stoker.core.environment import plan as environments
from stoker.core.environment.view import EnvironmentView
from stoker.core.plan import Ask, Found, ImageDigest, Refused, Unavailable
from tests.support import build
from tests.support import build_envs as env

AMD = ImageDigest("team", build.IMAGE, "linux/amd64", ("pull",))
ARM = ImageDigest("team", build.IMAGE, "linux/arm64", ("pull",))


def view(answers: Any, **members: Any) -> EnvironmentView:
    return EnvironmentView(
        build.environment(imagePullSecrets=[{"name": "pull"}], **members),
        ("linux/amd64", "linux/arm64"),
        ("pull",),
        answers,
    )


def test_every_platform_is_asked_for_and_nothing_is_said_before() -> None:
    made = environments.plan(view({AMD: Found(build.PINNED)}), build.T0)

    assert made.actions == (Ask(ARM),)
    assert made.status is None


def test_a_found_image_is_ready_with_its_digests() -> None:
    made = environments.plan(view({AMD: Found(build.PINNED), ARM: Found(build.PINNED)}), build.T0)

    assert made.status is not None
    assert [(image.platform, image.digest) for image in made.status.images] == [
        ("linux/amd64", build.DIGEST), ("linux/arm64", build.DIGEST),
    ]  # fmt: skip
    assert {entry.type: entry.status for entry in made.status.conditions} == {
        "Ready": "True", "Reconciling": "False", "Stalled": "False",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "reason", "stalled"),
    [
        (Refused("BaseImageNotFound", "404"), "BaseImageNotFound", "True"),
        (Refused("BaseImageUnauthorized", "401"), "BaseImageUnauthorized", "True"),
        (Unavailable("RegistryUnreachable", "no route", retry_at=build.T0 + 30), "RegistryUnreachable", "False"),
    ],
)
def test_what_the_registry_answers_is_the_reason(answer: Any, reason: str, stalled: str) -> None:
    made = environments.plan(view({AMD: Found(build.PINNED), ARM: answer}), build.T0)

    assert made.status is not None
    facts = {entry.type: entry for entry in made.status.conditions}
    assert (facts["Ready"].status, facts["Ready"].reason, facts["Stalled"].status) == ("False", reason, stalled)


def test_a_registry_that_was_away_is_asked_again() -> None:
    away = Unavailable("RegistryUnreachable", "no route", retry_at=build.T0 + 30)
    seen = view({AMD: Found(build.PINNED), ARM: away})

    assert environments.plan(seen, build.T0).wake_at == build.T0 + 30
    assert environments.plan(seen, build.T0 + 30).actions == (Ask(ARM),)


def test_an_equal_status_is_not_written_again() -> None:
    seen = view({AMD: Found(build.PINNED), ARM: Found(build.PINNED)})
    first = environments.plan(seen, build.T0).status
    told = msgspec.structs.replace(seen.environment, status=first)

    again = environments.plan(EnvironmentView(told, seen.platforms, seen.pull_secrets, seen.answers), build.T0 + 60)

    assert again.status is None


def test_the_words_of_a_solver_and_the_fix_read_as_one_sentence() -> None:
    refused = Refused("PackageNotFound", "we conclude that it is unsatisfiable.", "correct the name")

    made = environments.plan(view({AMD: Found(build.PINNED), ARM: refused}), build.T0)

    assert made.status is not None
    assert "we conclude that it is unsatisfiable; correct the name" in made.status.conditions[0].message


def test_an_environment_without_an_image_is_told_what_to_do() -> None:
    made = environments.plan(EnvironmentView(build.environment(image=None)), build.T0)

    assert made.status is not None
    assert "set spec.image" in made.status.conditions[0].message


def test_an_image_that_was_signed_names_the_key() -> None:
    means = replace(env.MEANS, signing_secret="cosign")
    wanted = env.wanted()
    answers = {
        env.base_question(wanted): Found(build.PINNED),
        env.record_question(wanted, means=means): env.hit(signed_by="sha256:key"),
    }
    environment = build.environment(pip=["numpy==2.1"], imagePullSecrets=[{"name": "pull"}])

    made = environments.plan(EnvironmentView(environment, ("linux/amd64",), (), answers, means=means), build.T0)

    assert made.status is not None
    assert ["sha256:key"] == [image.signed_by for image in made.status.images]
