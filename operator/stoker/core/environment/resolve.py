"""Which image an environment is: found by its content, or being built; shared by the plans of Environment and TrainingJob.

Definition, base by digest, specKey, then the registries' records: a hit is an image, and only a 404 of every registry
is a miss, which is built. Whatever else a registry says is waited for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stoker.api.environment import EnvironmentSpec
from stoker.core import reference, times
from stoker.core.environment import builds, definition, keys
from stoker.core.environment.builds import Build, Standing
from stoker.core.environment.buildspec import BuildPlan, make_build
from stoker.core.environment.definition import BadDefinition, Definition
from stoker.core.environment.lines import place_of
from stoker.core.environment.means import Means
from stoker.core.environment.request import Context
from stoker.core.environment.stepplace import needs_buildkit
from stoker.core.environment.told import building, failed, queued
from stoker.core.plan import (
    Answer,
    Answers,
    Ask,
    Create,
    EnvironmentRecord,
    Found,
    ImageDigest,
    KnownImage,
    Lookup,
    Posted,
    Question,
    Refused,
    SnapshotEntries,
    SnapshotFiles,
    SnapshotUrl,
    Unavailable,
    ask_again_at,
    is_due,
)
from stoker.errors import said

#: No signed URL works for longer.
_MOST_SIGNED_SECONDS = 604800
#: A miss that is older is looked at again before anything is built: someone may have built it meanwhile. In seconds.
MISS_SECONDS = 60.0
#: So many problems of a definition are told in a condition.
_MOST_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose image is wanted. title: what it is called in messages. spec: with the image that it has by default. platform:
    `os/architecture`. code: digest of the snapshot that its files lie in; None where there is none (yet). base: what its
    tag was found to mean before, pinned; empty to ask. pull_secrets: with which the base is looked up. forgotten_before: failures of
    builds that began before count for nothing (seconds since the epoch)."""

    namespace: str
    title: str
    spec: EnvironmentSpec
    platform: str
    code: str | None = None
    has_code: bool = False
    base: str = ""
    pull_secrets: tuple[str, ...] = ()
    forgotten_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Image:
    """An environment's image on one platform. source: given | workspace | global | built. size_bytes: of its compressed
    layers; build_seconds: of the build that made it; both 0 where unknown. signed_by: fingerprint of the key."""

    image: str
    source: str
    lock_key: str = ""
    size_bytes: int = 0
    build_seconds: int = 0
    signed_by: str = ""


@dataclass(frozen=True, slots=True)
class Resolution:
    """answer: Found(Image), why not, or None while something is being asked. questions: what it rests on. actions: to
    start a build. wake_at: when to look again. label: the build whose tries matter here; empty for none."""

    answer: Answer = None
    questions: tuple[tuple[Question, Answer], ...] = ()
    actions: tuple[Create, ...] = ()
    wake_at: float | None = None
    definition_key: str = ""
    spec_key: str = ""
    base: str = ""
    label: str = ""
    standing: Standing = field(default_factory=Standing)

    @property
    def image(self) -> Image | None:
        return self.answer.value if isinstance(self.answer, Found) else None

    def asks(self, now: float) -> tuple[Ask, ...]:
        return tuple(Ask(question) for question, answer in self.questions if is_due(answer, now))

    def look_again_at(self, now: float) -> float | None:
        return times.earliest(self.wake_at, *(ask_again_at(answer, now) for _, answer in self.questions))


def is_built(spec: EnvironmentSpec) -> bool:
    """Whether there is more to it than an image that is run as it is."""
    more = (spec.docker_steps, spec.conda, spec.conda_file, spec.pip, spec.pip_file)
    return any(more) or (spec.build is not None and spec.build.dockerfile is not None)


def resolve(
    wanted: Wanted, means: Means, answers: Answers, known: Mapping[str, Build], now: float, *, may_build: bool = True
) -> Resolution:
    """Which image it is, as far as is known now. known: the builds of the namespace by label. may_build: whether a build
    may be started."""
    if wanted.spec.platforms and wanted.platform not in wanted.spec.platforms:
        return Resolution(_wrong_platform(wanted))
    trail = _Trail(answers)
    if not is_built(wanted.spec):
        return _given(wanted, wanted.spec.image or "", trail)
    if means.registry is None:
        return Resolution(_no_registry(wanted))
    try:
        read = _definition(wanted, trail)
    except BadDefinition as error:
        return trail.end(_bad(wanted, error))
    if not isinstance(read, Found):
        return trail.end(read)
    defined: Definition
    defined, files = read.value
    if defined.plain:
        return _given(wanted, defined.image, trail)
    base = _base(wanted, defined, trail)
    if not isinstance(base, Found):
        return trail.end(base, definition_key=keys.definition_key(defined))
    found = _Keys(defined, base.value, wanted.platform, means, wanted.spec.refresh, files)
    return _found_or_built(wanted, found, trail, known, now, may_build)


class _Trail:
    """The questions that were needed, with the answers they have."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.asked: list[tuple[Question, Answer]] = []

    def ask(self, question: Question) -> Answer:
        answer = self._answers.get(question)
        self.asked.append((question, answer))
        return answer

    def told(self, question: Question) -> Answer:
        """An answer that nobody has to ask for."""
        return self._answers.get(question)

    def end(self, answer: Answer, **more: Any) -> Resolution:
        return Resolution(answer, tuple(self.asked), **more)


class _Keys:
    """What a definition is called on a platform. files: that it was read from, by path."""

    def __init__(
        self, defined: Definition, base: str, platform: str, means: Means, refresh: str, files: Mapping[str, str | None]
    ) -> None:
        self.defined, self.base, self.platform, self.means, self.refresh = defined, base, platform, means, refresh
        self.files = files
        self.definition_key = keys.definition_key(defined)
        self.spec_key = keys.spec_key(defined, base, platform)
        self.label = builds.label(self.spec_key, refresh, means.signing_secret)

    @property
    def runs_steps(self) -> bool:
        return needs_buildkit(self.defined.steps)

    @property
    def buildkit(self) -> str:
        """Address of the daemon that its build uses; empty where it needs none, or where there is none."""
        return self.means.buildkit if self.runs_steps else ""

    @property
    def told(self) -> dict[str, str]:
        return {
            "definition_key": self.definition_key, "spec_key": self.spec_key, "base": self.base, "label": self.label,
        }  # fmt: skip


def _given(wanted: Wanted, image: str, trail: _Trail) -> Resolution:
    answer = trail.ask(_digest_of(wanted, image))
    if isinstance(answer, Found):
        return trail.end(Found(Image(str(answer.value), "given")), base=str(answer.value))
    return trail.end(answer)


def _definition(wanted: Wanted, trail: _Trail) -> Answer:
    """The Definition and its files, by path, once those are read. Raises BadDefinition."""
    files: dict[str, str | None] = {}
    # A file may name another, which is read next.
    while paths := tuple(sorted(definition.files_wanted(wanted.spec, files))):
        if wanted.code is None:
            return None if wanted.has_code else _no_code(wanted, paths)
        answer = trail.ask(SnapshotFiles(wanted.namespace, wanted.code, paths))
        if not isinstance(answer, Found):
            return answer
        files |= answer.value
    entries = None
    if wanted.has_code and definition.reads_context(wanted.spec, files):
        if wanted.code is None:
            return None
        listed = trail.ask(SnapshotEntries(wanted.namespace, wanted.code))
        if not isinstance(listed, Found):
            return listed
        entries = listed.value
    return Found((definition.read(wanted.spec, files, entries), files))


def _no_code(wanted: Wanted, paths: tuple[str, ...]) -> Refused:
    return Refused(
        "FilesWithoutCode",
        f"{wanted.title} names {', '.join(paths)} in the job's code, and there is no code here",
        "use it in a job whose code holds the file, or write its content into `conda`, `pip` or `dockerSteps`",
    )


def _base(wanted: Wanted, defined: Definition, trail: _Trail) -> Answer:
    """The base's manifest on the platform: what the tag was found to mean before, else asked."""
    if wanted.base and reference.parse(wanted.base).name == reference.parse(defined.image).name:
        return Found(wanted.base)
    return trail.ask(_digest_of(wanted, defined.image))


def _digest_of(wanted: Wanted, image: str) -> ImageDigest:
    return ImageDigest(wanted.namespace, image, wanted.platform, wanted.pull_secrets, _again(wanted))


def _again(wanted: Wanted) -> str:
    """What makes questions new to whoever has asked that it be tried again: what registries said before is old then."""
    return f"again {wanted.forgotten_before:.0f}" if wanted.forgotten_before else ""


def _found_or_built(
    wanted: Wanted, found: _Keys, trail: _Trail, known: Mapping[str, Build], now: float, may_build: bool
) -> Resolution:
    means, registry = found.means, found.means.registry
    assert registry is not None, "looked at before"
    build = known.get(found.label) or Build()
    standing = builds.standing(build, means.builder.digest(found.buildkit), wanted.forgotten_before)
    told: dict[str, Any] = {**found.told, "standing": standing}
    made = standing.last.job.metadata.uid if standing.made and standing.last else ""
    question = EnvironmentRecord(
        wanted.namespace,
        found.spec_key,
        found.definition_key,
        means.places,
        found.refresh,
        made or _again(wanted),
        bool(means.signing_secret),
    )
    answer = trail.ask(question)
    while isinstance(answer, Found) and _is_stale(answer.value, standing, now):
        answer = trail.ask(replace(question, seen=f"{answer.value.at:.0f}"))
    if not isinstance(answer, Found):
        return trail.end(answer, **told)
    lookup: Lookup = answer.value
    if lookup.image is not None:
        return trail.end(Found(_image(lookup.image, standing)), **told)
    if standing.made:
        return trail.end(_record_missing(wanted, standing), **told)
    if standing.last is not None and (standing.running or standing.next_at is None or standing.next_at > now):
        told_of, wake_at = _waiting(wanted, build, standing, found.files, now)
        return trail.end(told_of, wake_at=wake_at, **told)
    return _start(wanted, found, trail, known, standing, told, may_build, now)


def _is_stale(lookup: Lookup, standing: Standing, now: float) -> bool:
    return lookup.image is None and not standing.made and not standing.running and now - lookup.at > MISS_SECONDS


def _image(known: KnownImage, standing: Standing) -> Image:
    # The record comes a moment before the build's own end.
    built = standing.last is not None and known.source == "workspace"
    seconds = standing.last.seconds if built and standing.last else 0
    return Image(
        known.image, "built" if built else known.source, known.lock_key, known.size_bytes, seconds, known.signed_by
    )


def _waiting(
    wanted: Wanted, build: Build, standing: Standing, files: Mapping[str, str | None], now: float
) -> tuple[Answer, float | None]:
    """What to say of a build that runs, or that has failed."""
    if standing.running:
        return building(wanted.title, build, standing, now)
    result = standing.last.result if standing.last else None
    place = place_of(result.where, wanted.spec, files) if result is not None else ""
    return failed(wanted.title, standing, place), standing.next_at


def _start(
    wanted: Wanted, found: _Keys, trail: _Trail, known: Mapping[str, Build], standing: Standing, told: dict[str, Any],
    may_build: bool, now: float,
) -> Resolution:  # fmt: skip
    """Start the next try, if it may."""
    means, spec = found.means, wanted.spec
    if not means.builder.image:
        return trail.end(_no_builder_image(wanted), **told)
    context = _context(wanted, found, standing, trail)
    if not isinstance(context, Found):
        return trail.end(context, **told)
    if found.runs_steps and not found.buildkit:
        return trail.end(_no_buildkit(wanted), **told)
    if not may_build:
        return trail.end(None, **told)
    running = sorted(one for one, build in known.items() if one != found.label and builds.is_running(build))
    if len(running) >= means.builder.at_a_time:
        return trail.end(queued(wanted.title, wanted.namespace, len(running)), **told)
    plan = BuildPlan(
        namespace=wanted.namespace, label=found.label, number=standing.next_number, definition=found.defined,
        definition_key=found.definition_key, spec_key=found.spec_key, platform=wanted.platform, base=found.base,
        means=means, refresh=found.refresh, buildkit=found.buildkit, secrets=spec.secrets, pull_secrets=wanted.pull_secrets,
        bytecode=spec.build.bytecode if spec.build else True, context=context.value,
    )  # fmt: skip
    manifest = make_build(plan)
    refused = trail.told(Posted("Job", wanted.namespace, manifest["metadata"]["name"]))
    answer = refused or Unavailable(
        "Building", f"{wanted.title}: the build is being started", "wait, this takes seconds"
    )
    return trail.end(answer, actions=(Create(manifest),), **told)


def _context(wanted: Wanted, found: _Keys, standing: Standing, trail: _Trail) -> Answer:
    """Where the build's pod gets the folder that steps copy from; Found(None) where none does."""
    digest = found.defined.context_digest
    if digest is None or wanted.code is None:
        return Found(None)
    job = builds.job_name(found.label, standing.next_number)
    seconds = min(found.means.builder.timeout_seconds, _MOST_SIGNED_SECONDS)
    answer = trail.ask(SnapshotUrl(wanted.namespace, wanted.code, seconds, job))
    if not isinstance(answer, Found):
        return answer
    return Found(Context(url=str(answer.value), digest=digest, path=definition.context_folder(wanted.spec)))


# -- What only a person can mend.


def _bad(wanted: Wanted, error: BadDefinition) -> Refused:
    *others, last = error.problems[:_MOST_PROBLEMS]
    if (more := len(error.problems) - _MOST_PROBLEMS) > 0:
        words = "; ".join(map(str, (*others, last)))
        fix = "`stoker env hash` of the manifest lists them all"
        return Refused("SpecInvalid", f"{wanted.title}: {words}; and {more} more", fix)
    # The last one's fix is the answer's own, so that both together read as a list.
    words = "; ".join((*map(str, others), said(last.field, last.message, where=last.where)))
    return Refused("SpecInvalid", f"{wanted.title}: {words}", last.fix)


def _wrong_platform(wanted: Wanted) -> Refused:
    return Refused(
        "ArchitectureMismatch",
        f"{wanted.title} is for {', '.join(wanted.spec.platforms)}, and the pool's nodes are {wanted.platform}",
        f"add {wanted.platform} to the environment's platforms, or use a pool of another architecture",
    )


def _no_registry(wanted: Wanted) -> Refused:
    return Refused(
        "NoRegistry",
        f"{wanted.title} has more than an image, and namespace {wanted.namespace} has no registry to keep what is built",
        "set spec.registry.url of Workspace/default in the namespace, or the chart's registry.url",
    )


def _no_builder_image(wanted: Wanted) -> Refused:
    message = f"{wanted.title} has to be built, and the operator was told no image to build with"
    return Refused("NoBuilderAvailable", message, "set builder.image in the chart's values")


def _no_buildkit(wanted: Wanted) -> Refused:
    return Refused(
        "NoBuilderAvailable",
        f"{wanted.title} has docker steps that run something, and there is no BuildKit here",
        "set spec.buildkit.address of Workspace/default to one, or install the chart with buildkit.enabled; steps that only "
        "set ENV, LABEL, WORKDIR, USER or COPY files need none",
    )


def _record_missing(wanted: Wanted, standing: Standing) -> Refused:
    name = standing.last.job.metadata.name if standing.last else ""
    return Refused(
        "RecordMissing",
        f"{wanted.title}: Job {name} says that it made the image, and the registry has no record of it",
        f"see that the registry keeps what is pushed, then `kubectl delete job {name} -n {wanted.namespace}`: it is built anew",
    )
