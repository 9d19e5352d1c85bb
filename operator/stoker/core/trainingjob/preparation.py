"""What must be known before the first attempt: code, inputs, image, and the record that pins them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stoker.api.computecluster import ComputeCluster
from stoker.api.environment import EnvironmentSpec
from stoker.api.kube import BatchJob
from stoker.api.names import ANNOTATION_IMAGE, ANNOTATION_SUBMITTED_BY
from stoker.api.trainingjob import Code, CommandJob, Input
from stoker.core import command, gitstate, podspec, record, times, units
from stoker.core.environment.known import forgotten_before, known_base
from stoker.core.environment.resolve import Resolution, Wanted, is_built, resolve
from stoker.core.inputdigest import ListedFile, listing_digest
from stoker.core.plan import (
    Answer,
    Answers,
    Ask,
    Create,
    Found,
    InlineSnapshot,
    InputFiles,
    NameHolder,
    Question,
    Recorded,
    Refused,
    SnapshotPresent,
    ask_again_at,
    is_due,
)
from stoker.core.trainingjob.attempts import former_seals, last_closed
from stoker.core.trainingjob.view import JobView

#: An older job may have had an attempt that nobody remembers: its seals are looked for first. In seconds. A younger
#: one cannot: its child would still be there. The same from the end of an attempt that another follows.
FORGETTABLE_SECONDS = 30.0
#: 30 days.
DEFAULT_TIMEOUT = 2592000
SNAPSHOT_INPUT = "snapshot:"


@dataclass(frozen=True, slots=True)
class Need:
    """One thing to know: the question and its answer. Without a question the answer is known from the start, or
    (None) the question cannot be asked yet."""

    question: Question | None = None
    answer: Answer = None

    @property
    def value(self) -> Any:
        return self.answer.value if isinstance(self.answer, Found) else None

    @property
    def known(self) -> bool:
        return isinstance(self.answer, Found)


@dataclass(frozen=True, slots=True)
class Preparation:
    """Everything to know before the first attempt."""

    snapshot: Need = Need()
    inputs: Mapping[str, Need] = field(default_factory=dict)
    image: Need = Need()
    #: How the image was found or is made; None where it is pinned already, or cannot be asked for yet.
    environment: Resolution | None = None
    former: Need = Need()
    record: Need = Need()
    #: Which run has the name; known from the start where that does not matter.
    name: Need = Need()

    def needs(self) -> Iterator[Need]:
        asked = self.environment.questions if self.environment is not None else ()
        image = (Need(question, answer) for question, answer in asked)
        yield from (self.name, self.snapshot, *self.inputs.values(), *image, self.former, self.record)

    #: Whether even the pool's nodes have to wait for `former`: nobody ever said that this job waits.
    unseen: bool = False

    @property
    def ready(self) -> bool:
        """Whether the job may ask for nodes."""
        needs = (self.name, self.snapshot, *self.inputs.values(), self.image, self.record)
        return all(need.known for need in needs) and (self.former.known or not self.unseen)

    def asks(self, now: float) -> tuple[Ask, ...]:
        """What is to be asked now: what has no answer, and what was refused and may be asked again."""
        return tuple(
            Ask(need.question) for need in self.needs() if need.question is not None and is_due(need.answer, now)
        )

    def retry_at(self, now: float) -> float | None:
        """When the first of what was refused may be asked again."""
        wake_at = self.environment.wake_at if self.environment is not None else None
        return times.earliest(wake_at, *(ask_again_at(need.answer, now) for need in self.needs()))

    @property
    def starts(self) -> tuple[Create, ...]:
        """The build to start for the image."""
        return self.environment.actions if self.environment is not None else ()


def prepare(view: JobView, key: str, compute: str, *, possible: bool, now: float) -> Preparation:
    """What is known so far. possible: nothing in the way that only the user can mend; else nothing is recorded."""
    spec = view.job.spec.command
    if spec is None or view.workspace.problem is not None:
        return Preparation()
    namespace, answers = view.job.metadata.namespace, view.answers
    snapshot = _snapshot(namespace, spec.code, answers)
    inputs = {name: _input(view, name, entry) for name, entry in view.job.spec.inputs.items() if entry.path is not None}
    resolution = _resolve(view, spec, snapshot.value, possible, now)
    image = Need(None, _pinned(view, resolution))
    former = _former(view, key, spec.resources.instance_count, now)
    known = all(need.known for need in (snapshot, *inputs.values(), image))
    recorded, name = Need(), _name(view, key)
    if possible and known and name.known and former_run(name, key) is None:
        text = record.encode(job_json(view, key, compute, snapshot.value, image.value, inputs, resolution))
        question = Recorded(namespace, key, text)
        recorded = Need(question, answers.get(question))
    return Preparation(
        snapshot, inputs, image, resolution, former, recorded, name, unseen=view.job.status.waiting is None
    )


def environment_of(view: JobView) -> EnvironmentSpec | None:
    """The environment that a job names or holds; None if it does not exist."""
    choice = view.job.spec.command.environment if view.job.spec.command else None
    if choice is None:
        return None
    return choice.spec if choice.spec is not None else (view.environment.spec if view.environment else None)


def image_reference(view: JobView) -> str | None:
    """The image of the job's environment, else the workspace's default. None where a Dockerfile names the base."""
    environment = environment_of(view)
    if environment is None or (environment.build is not None and environment.build.dockerfile is not None):
        return None
    return environment.image or view.workspace.defaults.image


def pull_secrets(view: JobView) -> tuple[str, ...]:
    """Secrets with which the job's image is looked up and pulled, each once."""
    environment, means = environment_of(view), view.workspace.means
    built = environment is not None and is_built(environment)
    own = [place.secret for place in means.places if place.secret] if built else []
    return tuple(dict.fromkeys((*_base_secrets(view), *own)))


def _base_secrets(view: JobView) -> tuple[str, ...]:
    """Secrets with which the image that the environment names is looked up."""
    environment, spec = environment_of(view), view.job.spec.command
    found = [secret.name for secret in environment.image_pull_secrets] if environment else []
    found += [secret.name for secret in spec.pod.image_pull_secrets] if spec and spec.pod else []
    return tuple(dict.fromkeys((*found, *view.workspace.image_pull_secrets)))


def timeout_seconds(view: JobView) -> int:
    """The longest run of the command that the job, its workspace or the product allows."""
    return view.job.spec.limits.timeout_seconds or view.workspace.defaults.timeout_seconds or DEFAULT_TIMEOUT


def limit_seconds(view: JobView) -> int | None:
    """For how long an attempt has its nodes at most, once its command has started; None where nobody set a timeout: the
    product's own is there so that nothing runs for ever, and says nothing of this job."""
    limits = view.job.spec.limits
    told = limits.timeout_seconds or view.workspace.defaults.timeout_seconds
    return told + limits.grace_seconds if told else None


def job_json(
    view: JobView, key: str, compute: str, snapshot: str | None, image: str | None, inputs: Mapping[str, Need],
    resolution: Resolution | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The record of the job. snapshot: digest of the code. image: pinned reference; None where it was never found."""
    job, environment = view.job, environment_of(view)
    recorded = {name: _recorded_input(entry, inputs.get(name)) for name, entry in job.spec.inputs.items()}
    texts = podspec.input_texts(recorded)
    identity = record.Identity(
        name=job.metadata.name, namespace=job.metadata.namespace, uid=job.metadata.uid, key=key,
        submitted_at=times.rfc3339(times.seconds(job.metadata.creation_timestamp)),
        submitted_by=job.metadata.annotations.get(ANNOTATION_SUBMITTED_BY),
    )  # fmt: skip
    text = command.resolve(
        job.spec.command.command if job.spec.command else "",
        # The shell knows the place of a single file, as launch tells it, and a secret; nobody else does.
        {name: podspec.input_reference(name) if place is None else place for name, place in texts.items()},
        {name: podspec.output_text(name) for name in job.spec.outputs},
    )
    pinned = record.Pinned(
        compute=compute, command=text, snapshot=snapshot, inputs=recorded, timeout_seconds=timeout_seconds(view),
        image=_recorded_image(view, image, resolution), environment=_recorded_environment(resolution),
        # What was built of the list has it; an image as it was given has to be looked at.
        pip=environment.pip if environment and not is_built(environment) else (),
        scratch_bytes=_scratch_bytes(job.spec.command), git=gitstate.told(job.metadata.annotations),
    )  # fmt: skip
    return record.job_record(identity, job.spec, pinned)


def _recorded_image(view: JobView, image: str | None, resolution: Resolution | None) -> tuple[str, str] | None:
    """Reference and digest."""
    if not image:
        return None
    name, _, digest = image.partition("@")
    given = resolution is None or not resolution.spec_key
    return (image_reference(view) or name if given else name), digest


def _recorded_environment(resolution: Resolution | None) -> dict[str, str]:
    """What the image was found or built by; nothing for one that is run as it is."""
    image = resolution.image if resolution is not None else None
    if resolution is None or image is None or not resolution.spec_key:
        return {}
    return {
        "definitionKey": resolution.definition_key, "specKey": resolution.spec_key, "lockKey": image.lock_key,
        "base": resolution.base, "source": image.source,
    }  # fmt: skip


def _scratch_bytes(block: CommandJob | None) -> int | None:
    """The disk that a run may use on each node; None for all there is."""
    scratch = block.resources.scratch if block else None
    return int(units.parse(scratch.size)) if scratch else None


def platform(cluster: ComputeCluster, instance_type: str | None) -> str | None:
    """`os/architecture` of a pool's nodes; None for a type it does not have."""
    kind = podspec.instance_type(cluster, instance_type)
    return f"linux/{kind.architecture}" if kind else None


def former_run(name: Need, key: str) -> Mapping[str, Any] | None:
    """The result of the earlier run that has the name of a job; None where there is none, or none is known."""
    held = name.value if isinstance(name.value, Mapping) else {}
    result = held.get("result")
    return result if held.get("key") != key and isinstance(result, Mapping) else None


def _name(view: JobView, key: str) -> Need:
    metadata = view.job.metadata
    if view.job.spec.run_policy != "PerName":
        return Need(None, Found(None))
    question = NameHolder(metadata.namespace, metadata.name, key, times.seconds(metadata.creation_timestamp) or 0.0)
    return Need(question, view.answers.get(question))


def _snapshot(namespace: str, code: Code | None, answers: Answers) -> Need:
    if code is None or (code.snapshot is None and not code.inline):
        return Need(None, Found(None))
    if code.snapshot is not None:
        return _present(SnapshotPresent(namespace, code.snapshot), answers)
    question = InlineSnapshot(namespace, tuple(sorted((code.inline or {}).items())))
    return Need(question, answers.get(question))


def _present(question: SnapshotPresent, answers: Answers) -> Need:
    """A snapshot by digest; once it is known to be there, its digest is the answer."""
    answer = answers.get(question)
    return Need(question, Found(question.digest) if isinstance(answer, Found) else answer)


def _input(view: JobView, name: str, entry: Input) -> Need:
    path, namespace = entry.path or "", view.job.metadata.namespace
    if path.startswith(SNAPSHOT_INPUT):
        need = _present(SnapshotPresent(namespace, path.removeprefix(SNAPSHOT_INPUT)), view.answers)
        return _unchanged(name, entry, need, path.removeprefix(SNAPSHOT_INPUT))
    root = view.workspace.storage_url.rstrip("/") + "/"
    if not path.startswith(root) or ".." in path.split("/"):
        return Need(
            None,
            Refused(
                "InputNotAllowed",
                f"spec.inputs.{name}.path: {path} does not lie under this namespace's storage, {root}",
                f"copy the data below {root}, or give a local folder to `stoker run`, which uploads it",
            ),
        )
    question = InputFiles(namespace, path, entry.type == "uri_file")
    need = Need(question, view.answers.get(question))
    return _unchanged(name, entry, need, listing_digest(need.value)) if need.known else need


def _unchanged(name: str, entry: Input, need: Need, digest: str) -> Need:
    """The need as it is, or refused where the job names the digest of its data and the data has another."""
    if entry.digest is None or not need.known or entry.digest == digest:
        return need
    return Need(
        need.question,
        Refused(
            "InputChanged",
            f"spec.inputs.{name}: the data at {entry.path} has digest {digest}, and the job wants {entry.digest}",
            "put back what was there, or submit again without inputs.digest",
        ),
    )


def pinned_image(view: JobView) -> str:
    """The image that an attempt of the job has begun with: nothing that is found later changes it. Empty before."""
    job = view.job
    told = job.status.environment.image if job.status.environment is not None and job.status.attempts else ""
    return told or next((found for child in view.children if (found := _annotated(child))), "")


def _annotated(child: BatchJob) -> str:
    return child.metadata.annotations.get(ANNOTATION_IMAGE, "")


def _resolve(view: JobView, spec: CommandJob, snapshot: str | None, possible: bool, now: float) -> Resolution | None:
    environment, reference = environment_of(view), image_reference(view)
    wanted = platform(view.cluster, view.instance_type) if view.cluster else None
    if environment is None or wanted is None or pinned_image(view):
        return None
    if reference is None and (environment.build is None or environment.build.dockerfile is None):
        return None
    code = spec.code
    asked = Wanted(
        namespace=view.job.metadata.namespace,
        title=f"Environment/{spec.environment.name}" if spec.environment.spec is None else "the environment",
        spec=msgspec.structs.replace(environment, image=reference),
        platform=wanted,
        code=snapshot,
        has_code=code is not None and (code.snapshot is not None or bool(code.inline)),
        base=_known_base(view, wanted),
        pull_secrets=_base_secrets(view),
        forgotten_before=forgotten_before(view.environment)
        if view.environment is not None and spec.environment.spec is None
        else 0.0,
    )
    return resolve(asked, view.workspace.means, view.answers, view.builds, now, may_build=possible)


def _known_base(view: JobView, wanted: str) -> str:
    """What the named Environment's base was found to be, once for each version of it."""
    found = view.environment
    choice = view.job.spec.command.environment if view.job.spec.command else None
    if found is None or choice is None or choice.spec is not None or found.spec.base_policy == "Always":
        return ""
    return known_base(found, wanted)


def _pinned(view: JobView, resolution: Resolution | None) -> Answer:
    """The answer to which image it is: the reference pinned by digest."""
    if pinned := pinned_image(view):
        return Found(pinned)
    if resolution is None:
        return None
    image = resolution.image
    return Found(image.image) if image is not None else resolution.answer


def _former(view: JobView, key: str, ranks: int, now: float) -> Need:
    last = last_closed(view)
    begun = times.seconds(last.ended_at if last else view.job.metadata.creation_timestamp)
    if begun is not None and now - begun < FORGETTABLE_SECONDS:
        return Need(None, Found({}))
    question = former_seals(view, key, ranks)
    return Need(question, view.answers.get(question))


def _recorded_input(entry: Input, need: Need | None) -> dict[str, Any]:
    if entry.secret_ref is not None:
        return record.secret_input(entry.secret_ref)
    if entry.path is None:
        return {"type": "literal", "value": entry.value or ""}
    told: dict[str, Any] = {"type": entry.type or "uri_folder", "mode": entry.mode or "download", "source": entry.path}
    if entry.path.startswith(SNAPSHOT_INPUT):
        digest = entry.path.removeprefix(SNAPSHOT_INPUT)
        return {**told, "snapshot": digest, "digest": digest}
    files: tuple[ListedFile, ...] = need.value if need is not None and need.known else ()
    listed = [{"key": key, "path": path, "size": size} for key, path, size, _ in files]
    return {**told, "files": listed, "digest": listing_digest(files)}
