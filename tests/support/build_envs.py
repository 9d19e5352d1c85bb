"""Builders for environments that are found or built: means, answers, and builds as the cluster has them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from stoker.api import names
from stoker.api.environment import EnvironmentSpec
from stoker.api.kube import BatchJob, Event, Pod
from stoker.core.environment import builds, definition, keys
from stoker.core.environment.builds import Build
from stoker.core.environment.means import Builder, Means
from stoker.core.environment.request import BuildResult
from stoker.core.environment.resolve import Resolution, Wanted, resolve
from stoker.core.plan import (
    Answer,
    EnvironmentRecord,
    Found,
    ImageDigest,
    KnownImage,
    Lookup,
    Question,
    RegistryPlace,
)
from tests.support import build

PLACE = RegistryPlace("registry.example.com/ml/team", "push")
GLOBAL = RegistryPlace("registry.example.com/shared")
BUILDER = Builder(image="registry.example.com/stoker/stoker:1", resources={"limits": {"memory": "2Gi"}})
MEANS = Means(registry=PLACE, trusted=(GLOBAL,), builder=BUILDER)
BUILT = f"registry.example.com/ml/team/environments@sha256:{'e' * 64}"
LOCK = "f" * 64


def spec(**members: Any) -> EnvironmentSpec:
    """An environment of a base and one package."""
    asked: dict[str, Any] = {"image": build.IMAGE, "pip": ["numpy==2.1"], **members}
    return msgspec.convert(asked, EnvironmentSpec)


def wanted(**members: Any) -> Wanted:
    given = members.pop("spec", None)
    asked = Wanted(build.NAMESPACE, "Environment/torch", given or spec(), "linux/amd64", pull_secrets=("pull",))
    return replace(asked, **members)


def base_question(of: Wanted) -> ImageDigest:
    return ImageDigest(of.namespace, build.IMAGE, of.platform, of.pull_secrets)


def keys_of(of: Wanted, files: Mapping[str, str | None] | None = None) -> tuple[str, str]:
    """definitionKey and specKey."""
    defined = definition.read(of.spec, files or {})
    return keys.definition_key(defined), keys.spec_key(defined, build.PINNED, of.platform)


def record_question(of: Wanted, seen: str = "", means: Means = MEANS) -> EnvironmentRecord:
    defined, spec_key = keys_of(of)
    return EnvironmentRecord(
        of.namespace, spec_key, defined, means.places, of.spec.refresh, seen, bool(means.signing_secret)
    )


def hit(source: str = "workspace", signed_by: str = "") -> Found[Lookup]:
    return Found(Lookup(build.T0, KnownImage(BUILT, source, LOCK, 12_000_000, signed_by)))


def miss(at: float = 0.0) -> Found[Lookup]:
    return Found(Lookup(build.T0 + at))


def answers(of: Wanted, record: Answer = None, **more: Any) -> dict[Question, Answer]:
    """The base is known; record: what registries say."""
    known: dict[Question, Answer] = {base_question(of): Found(build.PINNED)}
    if record is not None:
        known[record_question(of, more.get("seen", ""))] = record
    return known


def label_of(of: Wanted) -> str:
    return builds.label(keys_of(of)[1], of.spec.refresh)


def job_of(label: str, number: int = 1, *, created: float = 1.0, ended: str = "", reason: str = "", at: float = 9.0,
           builder: str = BUILDER.digest(), spec_key: str = "a" * 64) -> BatchJob:  # fmt: skip
    """A try's Job. ended: Complete or Failed once the Job controller is done with it, with `reason`."""
    conditions = (
        [{"type": ended, "status": "True", "reason": reason, "lastTransitionTime": build.stamp(at)}] if ended else []
    )
    return msgspec.convert(
        {
            "metadata": {
                "name": builds.job_name(label, number), "namespace": build.NAMESPACE, "uid": f"job-{number}",
                "creationTimestamp": build.stamp(created), "labels": {names.LABEL_BUILD: label},
                "annotations": {names.ANNOTATION_BUILDER: builder, names.ANNOTATION_SPEC_KEY: spec_key},
            },
            "status": {"conditions": conditions},
        },
        BatchJob,
    )  # fmt: skip


def pod_of(job: BatchJob, *, result: BuildResult | None = None, code: int = 0, reason: str = "", message: str = "",
           at: float = 9.0, running: bool = True, node: str = "n9", **status: Any) -> Pod:  # fmt: skip
    """A try's pod: running, or ended with the builder's report (or only an exit code and reason)."""
    said = message or (msgspec.json.encode(result).decode() if result is not None else "")
    over = result is not None or code or reason
    ended = {"exitCode": code, "reason": reason, "message": said, "finishedAt": build.stamp(at)}
    state: dict[str, Any] = (
        {"terminated": ended} if over else {"running": {"startedAt": build.stamp(2)}} if running else {}
    )
    return msgspec.convert(
        {
            "metadata": {
                "name": f"{job.metadata.name}-abcde", "namespace": build.NAMESPACE, "uid": f"pod-{job.metadata.uid}",
                "labels": dict(job.metadata.labels), "creationTimestamp": build.stamp(1),
                "ownerReferences": [{"kind": "Job", "name": job.metadata.name, "uid": job.metadata.uid, "controller": True}],
            },
            "spec": {"nodeName": node},
            "status": {
                "phase": "Running", "containerStatuses": [{"name": builds.CONTAINER, "state": state}], **status,
            },
        },
        Pod,
    )  # fmt: skip


def tried(label: str, *results: BuildResult, running: bool = False, builder: str = BUILDER.digest()) -> Build:
    """A build whose tries came to these results, one each 10 s; with `running`, another try is under way."""
    jobs = [job_of(label, n, created=10.0 * n, builder=builder) for n in range(1, len(results) + 1 + running)]
    pods = [pod_of(job, result=result, code=int(bool(result.reason)), at=10.0 * n + 5)
            for n, (job, result) in enumerate(zip(jobs, results, strict=False), 1)]  # fmt: skip
    pods += [pod_of(job) for job in jobs[len(results) :]]
    return Build(tuple(jobs), tuple(pods))


def refused_pod(job: BatchJob, message: str) -> Event:
    return msgspec.convert(
        {
            "metadata": {"name": "e", "namespace": build.NAMESPACE, "creationTimestamp": build.stamp(2)},
            "involvedObject": {"kind": "Job", "uid": job.metadata.uid}, "reason": "FailedCreate", "message": message,
        },
        Event,
    )  # fmt: skip


def resolved(of: Wanted, known: Mapping[Question, Answer], builds_: Mapping[str, Build] | None = None, *,
             means: Means = MEANS, at: float = 5.0, may_build: bool = True) -> Resolution:  # fmt: skip
    return resolve(of, means, known, builds_ or {}, build.T0 + at, may_build=may_build)


def asked(found: Resolution, at: float = 5.0) -> Sequence[Question]:
    return [ask.question for ask in found.asks(build.T0 + at)]
