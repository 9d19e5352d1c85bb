"""Which image an environment is: found by its content, joined while it is built, built once, or why not."""

from dataclasses import replace
from typing import Any

import pytest

from stoker.core.environment.builds import Build
from stoker.core.environment.means import Means
from stoker.core.environment.request import BuildResult
from stoker.core.environment.resolve import Image, Wanted
from stoker.core.plan import (
    Create,
    Found,
    Posted,
    Refused,
    SnapshotEntries,
    SnapshotFiles,
    SnapshotUrl,
    Unavailable,
)
from tests.support import build
from tests.support import build_envs as env
from tests.support.build_envs import BUILT, LOCK, asked, resolved

WANTED = env.wanted()
LABEL = env.label_of(WANTED)
MADE = BuildResult(image=BUILT, lock_key=LOCK)
UNSOLVABLE = BuildResult(reason="PipUnsatisfiable", message="numpy 99 does not exist", where="pip[0]: numpy==99")
LOST = BuildResult(reason="RegistryUnreachable", message="no route", transient=True)


def missed(*results: BuildResult, running: bool = False, at: float = 100.0, **members: Any) -> Any:
    """What is said when no registry has it and the build's tries came to these results."""
    tried = env.tried(LABEL, *results, running=running, **members)
    return resolved(WANTED, env.answers(WANTED, env.miss(at)), {LABEL: tried}, at=at)


def test_an_image_alone_is_run_as_it_is() -> None:
    plain = env.wanted(spec=env.spec(pip=[]))
    found = resolved(plain, {env.base_question(plain): Found(build.PINNED)}, means=Means())

    assert Found(Image(build.PINNED, "given")) == found.answer
    assert ((), "") == (found.actions, found.label)


def test_the_base_is_asked_for_first_and_the_records_next() -> None:
    assert [env.base_question(WANTED)] == asked(resolved(WANTED, {}))
    assert [env.record_question(WANTED)] == asked(resolved(WANTED, env.answers(WANTED)))


def test_a_base_that_was_found_for_this_version_is_not_asked_for_again() -> None:
    known = replace(WANTED, base=build.PINNED)

    assert [env.record_question(WANTED)] == asked(resolved(known, {}))


@pytest.mark.parametrize("source", ["workspace", "global"])
def test_a_record_is_a_hit_and_nothing_is_built(source: str) -> None:
    found = resolved(WANTED, env.answers(WANTED, env.hit(source)))

    assert Found(Image(BUILT, source, LOCK, 12_000_000)) == found.answer
    assert () == found.actions


def test_a_miss_everywhere_starts_one_build_named_by_its_key() -> None:
    found = resolved(WANTED, env.answers(WANTED, env.miss()))

    (create,) = found.actions
    assert f"env-{LABEL[:24]}-1" == create.manifest["metadata"]["name"]
    assert "Building" == found.answer.reason  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "answer",
    [
        Unavailable("RegistryUnreachable", "503", retry_at=build.T0 + 20),
        Refused("RegistryUnauthorized", "401", retry_at=build.T0 + 60),
        None,
    ],
)
def test_anything_but_404_neither_builds_nor_assumes(answer: Any) -> None:
    found = resolved(WANTED, {**env.answers(WANTED), env.record_question(WANTED): answer})

    assert (answer, ()) == (found.answer, found.actions)


def test_nothing_is_built_for_a_job_that_cannot_start() -> None:
    assert () == resolved(WANTED, env.answers(WANTED, env.miss()), may_build=False).actions


def test_a_build_that_runs_is_joined() -> None:
    found = missed(running=True)

    assert ("Building", ()) == (found.answer.reason, found.actions)
    assert f"is being built since {build.stamp(10)}" in found.answer.message


def test_a_build_that_made_it_is_looked_up_anew() -> None:
    tried = env.tried(LABEL, MADE)
    known = env.answers(WANTED, env.miss())

    assert [env.record_question(WANTED, "job-1")] == asked(resolved(WANTED, known, {LABEL: tried}))
    known[env.record_question(WANTED, "job-1")] = env.hit()
    assert Found(Image(BUILT, "built", LOCK, 12_000_000, 5)) == resolved(WANTED, known, {LABEL: tried}).answer


def test_a_record_that_never_came_is_said_and_not_built_for_ever() -> None:
    known = {**env.answers(WANTED), env.record_question(WANTED, "job-1"): env.miss()}
    found = resolved(WANTED, known, {LABEL: env.tried(LABEL, MADE)})

    assert ("RecordMissing", ()) == (found.answer.reason, found.actions)  # type: ignore[union-attr]


def test_an_old_miss_is_looked_at_again_before_a_build() -> None:
    known = env.answers(WANTED, env.miss())
    late = resolved(WANTED, known, at=100.0)

    assert [env.record_question(WANTED, f"{build.T0:.0f}")] == asked(late)
    assert () == late.actions


@pytest.mark.parametrize(
    ("results", "reason", "next_try"),
    [
        ((UNSOLVABLE,), "PipUnsatisfiable", None),
        ((LOST,), "RegistryUnreachable", 2),
        ((LOST, LOST), "RegistryUnreachable", 3),
        ((LOST, LOST, LOST), "RegistryUnreachable", None),
        ((BuildResult(reason="OutOfMemory", message="m"),), "OutOfMemory", None),
        ((BuildResult(reason="DiskFull", message="m"),), "DiskFull", None),
        # What the build itself calls passing: a daemon that is away, a node's disk that others have filled.
        ((BuildResult(reason="NoBuilderAvailable", message="m", transient=True),), "NoBuilderAvailable", 2),
        ((BuildResult(reason="DiskFull", message="m", transient=True),), "DiskFull", 2),
    ],
)
def test_failures_are_remembered(results: Any, reason: str, next_try: int | None) -> None:
    at = 10.0 * len(results) + 6
    waiting = missed(*results, at=at)

    assert (reason, ()) == (waiting.answer.reason, waiting.actions)
    later = missed(*results, at=at + 61)
    assert ([] if next_try is None else [f"env-{LABEL[:24]}-{next_try}"]) == [
        create.manifest["metadata"]["name"] for create in later.actions
    ]


@pytest.mark.parametrize("reason", ["SigningKeyNotFound", "SigningKeyInvalid"])
def test_a_signing_key_that_a_person_must_mend_is_told_at_once_and_tried_again(reason: str) -> None:
    """The operator does not see the Secret, so it cannot know when it was mended."""
    failed = BuildResult(reason=reason, message="Secret cosign: no key", transient=True)
    once, twice = missed(failed, at=20.0), missed(failed, failed, at=30.0)

    assert isinstance(once.answer, Refused)
    assert (reason, ()) == (once.answer.reason, once.actions)
    assert "spec.signing.secretRef of Workspace/default" in once.answer.fix
    assert f"it is tried again at {build.stamp(15 + 60)}" in once.answer.message
    assert f"it is tried again at {build.stamp(25 + 300)}" in twice.answer.message
    assert [f"env-{LABEL[:24]}-2"] == [one.manifest["metadata"]["name"] for one in missed(failed, at=76.0).actions]


def test_another_signing_secret_is_another_build_and_an_unsigned_image_no_hit() -> None:
    means = replace(env.MEANS, signing_secret="cosign")
    question = env.record_question(WANTED, means=means)
    (asks,) = asked(resolved(WANTED, env.answers(WANTED), means=means))
    assert (question, True) == (asks, question.signed)

    known = {**env.answers(WANTED), question: env.miss()}
    (create,) = resolved(WANTED, known, {LABEL: env.tried(LABEL, MADE)}, means=means).actions
    assert isinstance(create, Create)
    assert f"env-{LABEL[:24]}-1" != create.manifest["metadata"]["name"]
    signed = resolved(WANTED, {**known, question: env.hit(signed_by="sha256:1")}, means=means)
    assert Found(Image(BUILT, "workspace", LOCK, 12_000_000, 0, "sha256:1")) == signed.answer


def test_three_failed_tries_are_followed_by_another_an_hour_later() -> None:
    assert f"the next one is at {build.stamp(35 + 3600)}" in missed(LOST, LOST, LOST).answer.message
    assert 1 == len(missed(LOST, LOST, LOST, at=3700.0).actions)


def test_what_is_mended_in_a_secret_or_a_registry_is_tried_again_in_its_time() -> None:
    denied = BuildResult(reason="PushDenied", message="m")

    told = missed(denied, at=20.0).answer
    assert isinstance(told, Refused)
    assert f"it is tried again at {build.stamp(15 + 60)}" in told.message
    assert "stoker env build --again" in told.fix
    assert 1 == len(missed(denied, at=76.0).actions)


@pytest.mark.parametrize(
    ("failed", "again"),
    [
        (BuildResult(reason="OutOfMemory", message="m"), True),
        (LOST, True),
        (BuildResult(reason="PushDenied", message="m"), True),
        (UNSOLVABLE, False),
    ],
)
def test_other_settings_make_a_build_worth_another_try_but_mend_no_definition(failed: BuildResult, again: bool) -> None:
    made = [one.manifest["metadata"]["name"] for one in missed(failed, builder="x", at=16.0).actions]

    assert ([f"env-{LABEL[:24]}-2"] if again else []) == made


def test_another_buildkit_is_another_builder_for_steps_alone() -> None:
    steps = env.wanted(spec=env.spec(dockerSteps=["RUN true"]))
    label = env.label_of(steps)
    means = replace(env.MEANS, buildkit="tcp://old:1234")
    failed = env.tried(label, LOST, builder=env.BUILDER.digest("tcp://old:1234"))

    def started(means: Means) -> int:
        return len(resolved(steps, env.answers(steps, env.miss()), {label: failed}, means=means, at=16.0).actions)

    assert (0, 1) == (started(means), started(replace(means, buildkit="tcp://new:1234")))
    assert 0 == len(missed(LOST, at=16.0).actions)


def test_what_the_builder_knows_to_do_is_told_instead_of_what_the_reason_says() -> None:
    full = BuildResult(reason="DiskFull", message="m", transient=True, fix="raise buildkit.storage.size")

    assert "raise buildkit.storage.size" == missed(full, at=16.0).answer.fix


def test_registries_are_asked_anew_for_whoever_asks_that_it_be_tried_again() -> None:
    refused = Refused("RegistryUnauthorized", "401", retry_at=build.T0 + 60)
    known = {env.base_question(WANTED): Found(build.PINNED), env.record_question(WANTED): refused}
    again = replace(WANTED, base=build.PINNED, forgotten_before=build.T0 + 4)

    assert refused == resolved(WANTED, known).answer
    assert [env.record_question(again, f"again {build.T0 + 4:.0f}")] == asked(resolved(again, known))


def test_a_failure_names_the_line_of_the_user() -> None:
    answer = missed(UNSOLVABLE).answer

    assert "Environment/torch: pip[0]: numpy==99: numpy 99 does not exist" == answer.message
    assert "change the named line of the pip packages" == answer.fix


def test_so_many_builds_run_at_a_time() -> None:
    others = {name: env.tried(name, running=True) for name in ("a", "b", "c", "d")}
    known = env.answers(WANTED, env.miss())

    full = resolved(WANTED, known, others)
    assert ("BuildQueued", ()) == (full.answer.reason, full.actions)  # type: ignore[union-attr]
    del others["d"]
    assert 1 == len(resolved(WANTED, known, others).actions)
    assert () == resolved(WANTED, known, {**others, "d": Build(starting=True)}).actions


def test_pods_that_policy_or_quota_refuses_are_told_in_those_words() -> None:
    job = env.job_of(LABEL)
    words = 'pods "env-x-1-abcde" is forbidden: exceeded quota: small'
    known = {LABEL: Build((job,), (), (env.refused_pod(job, words),))}
    found = resolved(WANTED, env.answers(WANTED, env.miss()), known)

    assert isinstance(found.answer, Refused)
    assert "PodsRejected" == found.answer.reason
    assert "pods is forbidden: exceeded quota: small" in found.answer.message


def test_a_service_account_that_is_not_there_is_named() -> None:
    job = env.job_of(LABEL)
    words = (
        'Error creating: pods "env-x-1-" is forbidden: error looking up service account team/pusher: '
        'serviceaccount "pusher" not found'
    )
    known = {LABEL: Build((job,), (), (env.refused_pod(job, words),))}
    found = resolved(WANTED, env.answers(WANTED, env.miss()), known)

    assert isinstance(found.answer, Refused)
    assert "ServiceAccountNotFound" == found.answer.reason
    assert "namespace team has no ServiceAccount pusher" in found.answer.message
    assert "spec.registry.serviceAccountName of Workspace/default" in found.answer.fix


def test_a_job_that_is_refused_is_told() -> None:
    posted = Posted("Job", build.NAMESPACE, f"env-{LABEL[:24]}-1")
    refused = Refused("PodsRejected", "no more Jobs here", retry_at=build.T0 + 10)
    found = resolved(WANTED, {**env.answers(WANTED, env.miss()), posted: refused})

    assert refused == found.answer
    assert 1 == len(found.actions)


@pytest.mark.parametrize(
    ("wanted", "means", "reason", "words"),
    [
        (WANTED, Means(builder=env.BUILDER), "NoRegistry", "namespace team has no registry"),
        (env.wanted(spec=env.spec(pip=["numpy=="])), env.MEANS, "SpecInvalid", "pip[0]"),
        (env.wanted(spec=env.spec(platforms=["linux/arm64"])), env.MEANS, "ArchitectureMismatch", "linux/amd64"),
        (env.wanted(spec=env.spec(condaFile="conda.yaml")), env.MEANS, "FilesWithoutCode", "conda.yaml"),
        (env.wanted(spec=env.spec(dockerSteps=["RUN true"])), env.MEANS, "NoBuilderAvailable", "BuildKit"),
        (WANTED, replace(env.MEANS, builder=replace(env.BUILDER, image="")), "NoBuilderAvailable", "no image to build"),
    ],
)
def test_what_only_a_person_can_mend_is_named(wanted: Wanted, means: Means, reason: str, words: str) -> None:
    known = env.answers(wanted, env.miss()) if reason == "NoBuilderAvailable" else env.answers(WANTED)
    found = resolved(wanted, known, means=means)

    assert isinstance(found.answer, Refused)
    assert (reason, ()) == (found.answer.reason, found.actions)
    assert words in found.answer.message
    assert found.answer.fix


def test_files_of_the_code_are_read_before_the_key_is_known() -> None:
    asks_file = env.wanted(spec=env.spec(pip=[], pipFile="requirements.txt"), code=build.SNAPSHOT, has_code=True)
    question = SnapshotFiles(build.NAMESPACE, build.SNAPSHOT, ("requirements.txt",))

    assert [question] == asked(resolved(asks_file, {}))
    nested = resolved(asks_file, {question: Found({"requirements.txt": "-r more.txt\n"})})
    assert [SnapshotFiles(build.NAMESPACE, build.SNAPSHOT, ("more.txt",))] == asked(nested)
    same = resolved(
        asks_file, {**env.answers(WANTED, env.miss()), question: Found({"requirements.txt": "numpy==2.1\n"})}
    )
    assert LABEL == same.label


def test_a_file_that_is_not_there_is_named() -> None:
    asks_file = env.wanted(spec=env.spec(pip=[], pipFile="requirements.txt"), code=build.SNAPSHOT, has_code=True)
    question = SnapshotFiles(build.NAMESPACE, build.SNAPSHOT, ("requirements.txt",))
    found = resolved(asks_file, {question: Found({"requirements.txt": None})})

    assert "SpecInvalid" == found.answer.reason  # type: ignore[union-attr]
    assert "no file requirements.txt" in found.answer.message  # type: ignore[union-attr]


def test_until_the_code_is_stored_nothing_is_said() -> None:
    asks_file = env.wanted(spec=env.spec(pip=[], pipFile="requirements.txt"), has_code=True)

    assert (None, ()) == (resolved(asks_file, {}).answer, resolved(asks_file, {}).questions)


def test_another_refresh_is_another_build_of_the_same_spec() -> None:
    anew = env.wanted(spec=env.spec(refresh="2026-11"))

    assert env.keys_of(WANTED) == env.keys_of(anew)
    assert LABEL != env.label_of(anew)
    (create,) = resolved(anew, env.answers(anew, env.miss())).actions
    assert isinstance(create, Create)
    assert "2026-11" == create.manifest["metadata"]["annotations"]["stoker.dev/refresh"]


def test_copied_files_come_by_a_signed_url_of_the_code() -> None:
    from stoker.runtime.wire import Entry

    copying = env.wanted(
        spec=env.spec(dockerSteps=["COPY a.txt /a.txt"], context="."), code=build.SNAPSHOT, has_code=True
    )
    entries = SnapshotEntries(build.NAMESPACE, build.SNAPSHOT)
    known: dict[Any, Any] = {env.base_question(copying): Found(build.PINNED)}
    assert [entries] == asked(resolved(copying, known))
    known[entries] = Found((Entry("a.txt", 1, "a" * 64),))
    (record,) = asked(resolved(copying, known))
    known[record] = env.miss()
    (url,) = asked(resolved(copying, known))
    assert isinstance(url, SnapshotUrl)
    known[url] = Found("https://store/x?signature")
    (create,) = resolved(copying, known).actions
    variable = create.manifest["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
    assert '"url":"https://store/x?signature"' in variable


@pytest.mark.parametrize(
    ("lines", "message", "fix"),
    [
        (1, "pip[0]: 'a=1' is not a package", "write a==1"),
        (2, "pip[0]: 'a=1' is not a package", "write b==1"),
        (7, "; and 2 more", "`stoker env hash` of the manifest lists them all"),
    ],
)
def test_a_definition_s_problems_are_listed_and_no_fix_stands_twice(lines: int, message: str, fix: str) -> None:
    wrong = env.wanted(spec=env.spec(pip=[f"{name}=1" for name in "abcdefg"[:lines]]))
    answer = resolved(wrong, {}).answer

    assert isinstance(answer, Refused)
    told = f"{answer.message}; {answer.fix}"
    assert message in told
    assert fix in answer.fix
    assert [1] * min(lines, 5) == [told.count(f"write {name}==1") for name in "abcde"[:lines]]
