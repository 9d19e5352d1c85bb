"""What a container that cannot be made lacks: a Secret, a ConfigMap, or a key in one, and which field asks for it.

Stoker never reads them: what is missing is known from the kubelet's words alone.
"""

import re
from collections.abc import Iterator

from stoker.api.common import SecretKey
from stoker.api.kube import Pod
from stoker.api.trainingjob import DataKey, DataObject, TrainingJob
from stoker.core.trainingjob.obstacles import Wait

_CANNOT = "CreateContainerConfigError"
#: The reason where the node's words name neither.
NOT_CREATED = "ContainerNotCreated"
_NO_OBJECT = re.compile(r'(?P<kind>secret|configmap)s? "(?P<name>[^"]+)" not found', re.IGNORECASE)
_NO_KEY = re.compile(
    r"couldn't find key (?P<key>\S+) in (?P<kind>Secret|ConfigMap) [^/\s]+/(?P<name>[^\s,;]+)", re.IGNORECASE
)
#: By the kubelet's word in lower case: what people call it, and how one is made.
_KINDS = {"secret": ("Secret", "secret generic"), "configmap": ("ConfigMap", "configmap")}


def lacking(pod: Pod, job: TrainingJob) -> Wait | None:
    """Why a container of a pod cannot be made, None if nothing is in the way of that."""
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        waiting = status.state.waiting
        if waiting is not None and waiting.reason == _CANNOT:
            return _missing(waiting.message, job) or Wait(
                NOT_CREATED,
                f"the node cannot make container {status.name}: {waiting.message}",
                "mend what it names; the node tries again by itself",
            )
    return None


def words_of(job: TrainingJob, reason: str, waited: str) -> str | None:
    """What to say of an attempt that was ended for a lack, from what its job asks for; None for another reason. waited:
    for how long it was there at least."""
    for kind in ("Secret", "ConfigMap"):
        if reason in (f"{kind}NotFound", f"{kind}KeyNotFound"):
            asked = ", ".join(f"{one.name} ({field})" for field, one in _references(job, kind))
            what = f"a {kind} or a key of one" if "Key" in reason else f"a {kind}"
            return f"{what} that the pods need was missing for {waited}; the run asks for {asked or 'none by itself'}"
    return f"a node could not make the containers for {waited}" if reason == NOT_CREATED else None


def _missing(words: str, job: TrainingJob) -> Wait | None:
    found = _NO_KEY.search(words) or _NO_OBJECT.search(words)
    if found is None:
        return None
    named = found.groupdict()
    kind, noun = _KINDS[named["kind"].lower()]
    name, key, namespace = named["name"], named.get("key"), job.metadata.namespace
    askers = ", ".join(_askers(job, kind, name, key)) or "the pod"
    if key is not None:
        what, reason = f'{kind} "{name}" in namespace {namespace} has no key "{key}"', f"{kind}KeyNotFound"
        make = f"add the key {key} to {kind} {name} (`kubectl edit {kind.lower()} {name} -n {namespace}`)"
    else:
        wanted = next((one for one in _keys(job, kind, name)), "KEY")
        what, reason = f'there is no {kind} "{name}" in namespace {namespace}', f"{kind}NotFound"
        make = f"make it: `kubectl create {noun} {name} -n {namespace} --from-literal={wanted}=…`"
    return Wait(reason, f"{what}; {askers} needs it", f"{make}; the pod then starts by itself", yours=True)


def _askers(job: TrainingJob, kind: str, name: str, key: str | None) -> Iterator[str]:
    """The fields that ask for an object, or for a key of it."""
    for field, reference in _references(job, kind):
        asked = None if isinstance(reference, DataObject) else reference.key
        if reference.name == name and (key is None or asked == key):
            yield field


def _keys(job: TrainingJob, kind: str, name: str) -> Iterator[str]:
    for _, reference in _references(job, kind):
        if not isinstance(reference, DataObject) and reference.name == name:
            yield reference.key


def _references(job: TrainingJob, kind: str) -> Iterator[tuple[str, SecretKey | DataKey | DataObject]]:
    """What a job asks of Secrets, or of ConfigMaps: (field, reference), in the order of the spec."""
    secret = kind == "Secret"
    for name, entry in job.spec.inputs.items():
        if secret and entry.secret_ref is not None:
            yield f"spec.inputs.{name}.secretRef", entry.secret_ref
    if job.spec.command is None:
        return
    for variable in job.spec.command.env:
        source = variable.value_from
        reference = (source.secret_key_ref if secret else source.config_map_key_ref) if source else None
        if reference is not None:
            yield f"spec.command.env[{variable.name}].valueFrom", reference
    for number, whole in enumerate(job.spec.command.env_from):
        drawn = whole.secret_ref if secret else whole.config_map_ref
        if drawn is not None:
            yield f"spec.command.envFrom[{number}]", drawn
