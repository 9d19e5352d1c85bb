"""The plan of one Environment: what its image means on each platform that is needed here.

The cluster runs images as they are: a tag becomes the digest of each platform's manifest. Jobs pin the digest they
started with, so an edit changes no run.
"""

from stoker.api.environment import EnvironmentStatus, ResolvedImage
from stoker.core import times
from stoker.core.conditions import Fact, kstatus, stamped
from stoker.core.environment.view import EnvironmentView
from stoker.core.plan import Answer, Ask, Found, ImageDigest, Plan, Refused, Unavailable, ask_again_at, is_due


def plan(view: EnvironmentView, now: float) -> Plan[EnvironmentStatus]:
    """Ask the registry for each platform, and say what it answered.

    Ready is True once every platform is found, BaseImageNotFound or BaseImageUnauthorized when the registry says no
    (only the user can mend that), RegistryUnreachable while it does not answer.
    """
    environment = view.environment
    answers = {question.platform: (question, view.answers.get(question)) for question in _questions(view)}
    asks = tuple(Ask(question) for question, answer in answers.values() if is_due(answer, now))
    status = EnvironmentStatus(
        observed_generation=environment.metadata.generation,
        conditions=stamped(
            _facts(view, [answer for _, answer in answers.values()]),
            environment.status.conditions, environment.metadata.generation, now,
        ),
        images=tuple(
            ResolvedImage(platform=platform, digest=str(answer.value).partition("@")[2], source="given")
            for platform, (_, answer) in sorted(answers.items())
            if isinstance(answer, Found)
        ),
    )  # fmt: skip
    # Nothing is written until there is an answer to tell: most images resolve at once.
    told = status if all(answer is not None for _, answer in answers.values()) else None
    return Plan(
        asks,
        None if told == environment.status else told,
        times.earliest(*(ask_again_at(answer, now) for _, answer in answers.values())),
    )


def _questions(view: EnvironmentView) -> tuple[ImageDigest, ...]:
    environment = view.environment
    reference = environment.spec.image
    if reference is None:
        return ()
    secrets = tuple(dict.fromkeys((*(s.name for s in environment.spec.image_pull_secrets), *view.pull_secrets)))
    return tuple(
        ImageDigest(environment.metadata.namespace, reference, platform, secrets)
        for platform in dict.fromkeys(view.platforms)
    )


def _facts(view: EnvironmentView, answers: list[Answer]) -> dict[str, Fact]:
    if view.environment.spec.image is None:
        message = "spec.image is missing: this cluster runs images as they are; set spec.image"
        return kstatus(False, "EnvironmentWithoutImage", message, stalled=True)
    refused = next((answer for answer in answers if isinstance(answer, Refused)), None)
    if refused is not None:
        return kstatus(False, refused.reason, _words(refused), stalled=True)
    unavailable = next((answer for answer in answers if isinstance(answer, Unavailable)), None)
    if unavailable is not None:
        return kstatus(False, unavailable.reason, _words(unavailable))
    if any(answer is None for answer in answers):
        return kstatus(False, "LookingUp", f"asking the registry for {view.environment.spec.image}")
    return kstatus(True, "Resolved")


def _words(answer: Refused | Unavailable) -> str:
    return "; ".join(part for part in (answer.message, answer.fix) if part)
