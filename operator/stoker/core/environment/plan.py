"""The plan of one Environment: which image it is on each platform that is needed here, found or built.

An Environment is built as soon as it is there, before a job asks. Jobs pin the digest they started with, so an edit
changes no run.
"""

from collections.abc import Iterator

import msgspec

from stoker.api.environment import BuildStatus, Environment, EnvironmentStatus, ResolvedImage
from stoker.core import times
from stoker.core.conditions import Fact, kstatus, stamped
from stoker.core.environment.known import forgotten_before, known_base, known_image
from stoker.core.environment.resolve import Resolution, Wanted, is_built, resolve
from stoker.core.environment.stored import build_log
from stoker.core.environment.view import EnvironmentView
from stoker.core.plan import Action, Answer, Found, Plan, Refused, Unavailable

#: `lastUsed` is written at most so often, in seconds.
USED_EVERY = 3600.0
#: A wait is shown once it has lasted so long, in seconds: most images are found at once.
SHOW_AFTER = 5.0


def plan(view: EnvironmentView, now: float) -> Plan[EnvironmentStatus]:
    """Find the image for each platform, have it built where no registry has it, and say how that stands.

    Ready is True once every platform has its image; Stalled when only the user can mend it.
    """
    found = {platform: _resolved(view, platform, now) for platform in _platforms(view)}
    status = _status(view, found, now)
    actions: list[Action] = []
    for resolution in found.values():
        actions += [*resolution.asks(now), *resolution.actions]
    wake_at = times.earliest(*(resolution.look_again_at(now) for resolution in found.values()))
    # Nothing is written until there is an answer to tell: most images resolve at once.
    told = status if all(resolution.answer is not None for resolution in found.values()) else None
    if told is not None and (show_at := _show_at(view, told)) > now:
        told, wake_at = None, times.earliest(wake_at, show_at)
    return Plan(
        tuple(actions),
        None if told == view.environment.status else told,
        wake_at,
        frozenset(one.label for one in found.values() if one.label and not isinstance(one.answer, Found)),
    )


def _platforms(view: EnvironmentView) -> tuple[str, ...]:
    return tuple(dict.fromkeys(view.environment.spec.platforms or view.platforms))


def _resolved(view: EnvironmentView, platform: str, now: float) -> Resolution:
    environment = view.environment
    spec, metadata = environment.spec, environment.metadata
    from_file = spec.build is not None and spec.build.dockerfile is not None
    image = spec.image or (None if from_file else view.default_image)
    if image is None and not from_file:
        return Resolution(
            Refused(
                "EnvironmentWithoutImage",
                "spec.image is missing, and the workspace has no default",
                "set spec.image, or spec.defaults.image of Workspace/default",
            )
        )
    secrets = tuple(dict.fromkeys((*(one.name for one in spec.image_pull_secrets), *view.pull_secrets)))
    wanted = Wanted(
        namespace=metadata.namespace, title=f"Environment/{metadata.name}", platform=platform,
        spec=msgspec.structs.replace(spec, image=image), base=known_base(environment, platform), pull_secrets=secrets,
        forgotten_before=forgotten_before(environment),
    )  # fmt: skip
    return resolve(wanted, view.means, view.answers, view.builds, now)


def _status(view: EnvironmentView, found: dict[str, Resolution], now: float) -> EnvironmentStatus:
    environment = view.environment
    generation, former = environment.metadata.generation, environment.status
    images = tuple(
        _image(environment, platform, one) for platform, one in sorted(found.items()) if one.base or one.spec_key
    )
    keyed = next((one for one in found.values() if one.spec_key), None)
    return EnvironmentStatus(
        observed_generation=generation,
        definition_key=next((one.definition_key for one in found.values() if one.definition_key), ""),
        base=images[0].base if images else "",
        conditions=stamped(_facts(view, found), former.conditions, generation, now),
        images=images,
        build_log=build_log(keyed.spec_key) if keyed is not None else "",
        build=_build(environment, found),
        last_used=_used(view),
    )


def _image(environment: Environment, platform: str, found: Resolution) -> ResolvedImage:
    """What is known of a platform. How an image came about stays told when its build's Job is gone."""
    image = found.image
    if image is None:
        return ResolvedImage(platform=platform, spec_key=found.spec_key, base=found.base)
    pinned = image.image
    former = known_image(environment, platform)
    same = (
        former is not None and former.spec_key == found.spec_key and former.image == pinned and former.source == "built"
    )
    return ResolvedImage(
        platform=platform, spec_key=found.spec_key, base=found.base, lock_key=image.lock_key,
        digest=pinned.partition("@")[2], image=pinned, size_bytes=image.size_bytes,
        source="built" if same else image.source, signed_by=image.signed_by,
        build_seconds=former.build_seconds if same and former is not None else image.build_seconds,
    )  # fmt: skip


def _build(environment: Environment, found: dict[str, Resolution]) -> BuildStatus | None:
    """The newest build; the former one while nothing else was built."""
    tries = [one.standing.last for one in found.values() if one.standing.last is not None]
    if not tries:
        keys = {one.spec_key for one in found.values()}
        kept = environment.status.observed_generation == environment.metadata.generation
        same = kept and all(one.spec_key in keys for one in environment.status.images)
        return environment.status.build if same else None
    last = max(tries, key=lambda one: one.started_at)
    return BuildStatus(
        name=last.job.metadata.name, started_at=times.rfc3339(last.started_at), ended_at=times.rfc3339(last.ended_at),
        tries=last.number,
    )  # fmt: skip


def _used(view: EnvironmentView) -> str:
    former = view.environment.status.last_used
    last, used = times.seconds(former), view.used_at
    return times.rfc3339(used) if used is not None and (last is None or used >= last + USED_EVERY) else former


def _show_at(view: EnvironmentView, status: EnvironmentStatus) -> float:
    """When a status may be written. One that only says that something goes on waits a little, for it may be over."""
    if any(one.type == "Reconciling" and one.status == "True" for one in status.conditions):
        since = times.seconds(status.build.started_at) if status.build else None
        created = times.seconds(view.environment.metadata.creation_timestamp)
        begun = since if since is not None else created
        return 0.0 if begun is None else begun + SHOW_AFTER
    return 0.0


def _facts(view: EnvironmentView, found: dict[str, Resolution]) -> dict[str, Fact]:
    answers = [one.answer for one in found.values()]
    if (refused := next((one for one in answers if isinstance(one, Refused)), None)) is not None:
        return kstatus(False, refused.reason, _words(refused), stalled=True)
    if (unavailable := next((one for one in answers if isinstance(one, Unavailable)), None)) is not None:
        return kstatus(False, unavailable.reason, _words(unavailable))
    if any(one is None for one in answers):
        return kstatus(False, "LookingUp", "asking the registries")
    how = "Resolved" if not is_built(view.environment.spec) else "; ".join(sorted(set(_how(view, found)))) or "Found"
    return kstatus(True, how)


def _how(view: EnvironmentView, found: dict[str, Resolution]) -> Iterator[str]:
    for platform, one in found.items():
        yield "Built" if _image(view.environment, platform, one).source == "built" else "Found"


def _words(answer: Answer) -> str:
    if not isinstance(answer, Refused | Unavailable):
        return ""
    # What solvers and registries say mostly ends in a full stop.
    return "; ".join(part for part in (answer.message.removesuffix("."), answer.fix) if part)
