"""The CEL rules once more in Python, for manifests that are checked without an API server.

Each twin takes the value that the rule stands on (with the defaults filled in) and gives what offends it (empty text:
nothing to show), or None. A test runs both over the same examples; a rule without a twin is a test failure.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from stoker.api.common import KINDS
from stoker.api.jobrules import IMMUTABLE, RESERVED_NAMES
from stoker.api.openapi import RULES_KEY, Schema, kind_schema
from stoker.api.providers import BLOCKS, block_rule
from stoker.api.trainingjob import PLACED

Twin = Callable[[Any], Any]
#: Of a rule that compares with the former value: (former, present) -> what offends, or None.
Transition = Callable[[Any, Any], Any]

_PLACEHOLDER = re.compile(r"\$\{\{(?:(inputs|outputs)\.([A-Za-z0-9_]+)\}\})?")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
_UNSAFE_PATH = re.compile(r"(^|/)([.]{0,2})(/|$)")
_HOST_AND_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*\Z")
_MOST_INLINE = 204800
_OF_THE_NODE = re.compile(
    r"/(((bin|boot|dev|etc|lib|lib32|lib64|proc|root|run|sbin|sys|usr)(/.*)?)|(home|media|mnt|opt|srv|tmp|var)|"
    r"var/(lib|log|run)(/(kubelet|containerd|docker|etcd|rancher|containers|cni)(/.*)?)?)\Z"
)


def _one_of(*names: str) -> Twin:
    """Exactly one of these members is there. What offends: the names of those that are."""

    def offence(value: Mapping[str, Any]) -> Any:
        there = [name for name in names if name in value]
        return None if len(there) == 1 else ", ".join(there) or "neither"

    return offence


def _belongs(kind: str, block: str) -> Twin:
    """The block is there when the type is this one, and only then."""
    return lambda value: None if (value.get("type") == kind) == (block in value) else value.get("type")


def _any_key(bad: Callable[[str], bool]) -> Twin:
    return lambda value: ", ".join(key for key in value if bad(key)) or None


def _undeclared(spec: Mapping[str, Any]) -> Any:
    text = spec.get("command", {}).get("command", "").replace(" ", "")
    for place in _PLACEHOLDER.finditer(text):
        block, name = place.groups()
        if block is None or name not in spec.get(block, {}):
            return text[place.start() : place.start() + 64].split("}}")[0] + "}}"
    return None


_OF_RAY = {"port", "includeDashboard", "dashboardPort", "headNodeAdditionalArgs", "workerNodeAdditionalArgs"}


def _nodes(block: Mapping[str, Any]) -> int:
    count: int = block.get("resources", {}).get("instanceCount", 1)
    return count


def _too_small_maximum(spec: Mapping[str, Any]) -> Any:
    return spec["minInstances"] if spec["minInstances"] > spec["maxInstances"] else None


def _several_types(spec: Mapping[str, Any]) -> Any:
    count = len(spec["instanceTypes"])
    return count if spec["provider"]["type"] == "Scale" and count != 1 else None


def _long_or_dotted(whole: Mapping[str, Any]) -> Any:
    name: str = whole["metadata"]["name"]
    return name if len(name) > 63 or "." in name else None


def _inline_length(files: Mapping[str, str]) -> Any:
    length = sum(map(len, files.values()))
    return f"{length} characters" if length > _MOST_INLINE else None


def _has_steps(spec: Mapping[str, Any]) -> bool:
    return bool(spec.get("dockerSteps")) or "dockerfile" in spec.get("build", {})


def _if(bad: Callable[[Any], bool]) -> Twin:
    return lambda value: value if bad(value) else None


def _name_if(bad: Callable[[str], bool]) -> Twin:
    return lambda whole: whole["metadata"]["name"] if bad(whole["metadata"]["name"]) else None


#: By the rule's message, which tells rules apart and is what both say.
_TWINS: dict[str, Twin] = {
    **{block_rule(kind, block).message: _belongs(kind, block) for kind, block in BLOCKS.items()},
    "a source has exactly one of autoScalingGroup, nodegroup, launchTemplate": _one_of(
        "autoScalingGroup", "nodegroup", "launchTemplate"
    ),
    "the block provider.external belongs to type External": lambda value: (
        value.get("type") if "external" in value and value.get("type") != "External" else None
    ),
    "minInstances exceeds maxInstances": _too_small_maximum,
    "warm.instances exceeds maxInstances": lambda spec: (
        spec["warm"]["instances"] if spec.get("warm", {}).get("instances", 0) > spec["maxInstances"] else None
    ),
    "a budget needs a limit": lambda budget: (
        budget.get("action", "Warn") if not budget.keys() & {"nodeHoursPerDay", "costPerDay"} else None
    ),
    "budget.costPerDay needs the price of every type": lambda spec: (
        spec["budget"]["costPerDay"]
        if "costPerDay" in spec.get("budget", {}) and not all("pricePerHour" in kind for kind in spec["instanceTypes"])
        else None
    ),
    "no type of the pool has the tier of fallback.toTier": lambda spec: (
        spec["fallback"]["toTier"]
        if "fallback" in spec
        and all(kind.get("tier", "Dedicated") != spec["fallback"]["toTier"] for kind in spec["instanceTypes"])
        else None
    ),
    "scratchPath is not an absolute path of plain names": _if(
        lambda path: not re.match(r"(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+\Z", path)
    ),
    "scratchPath is a folder that the node itself needs": _if(lambda path: _OF_THE_NODE.match(path) is not None),
    "storage is for nodes that stay, those of provider.type Static": lambda spec: (
        spec["provider"]["type"] if "storage" in spec and spec["provider"]["type"] != "Static" else None
    ),
    "a pool of this provider.type removes no nodes, so scaleDown means nothing there": lambda spec: (
        spec["provider"]["type"]
        if "scaleDown" in spec and spec["provider"]["type"] in ("Static", "External", "ProvisioningRequest")
        else None
    ),
    "a pool of this provider.type owns no nodes, so the scheduler alone says which jobs share one": lambda spec: (
        spec["sharing"]
        if spec["sharing"] != "WholeNode" and spec["provider"]["type"] in ("External", "ProvisioningRequest")
        else None
    ),
    "a node that jobs share is not free between them, so its scratch path cannot be scrubbed after each": lambda spec: (
        spec["sharing"]
        if spec["sharing"] != "WholeNode" and spec.get("storage", {}).get("scrub") == "OnJobEnd"
        else None
    ),
    "provider type Scale has exactly one instance type, for one object scales one kind of node": _several_types,
    "a ComputeCluster's name has at most 63 characters, for it becomes a label": _name_if(lambda name: len(name) > 63),
    "the names `local` and `serverless` are reserved": _name_if(lambda name: name in ("local", "serverless")),
    "pip and pipFile are two lists of packages": lambda spec: (
        spec["pipFile"] if spec.get("pip") and "pipFile" in spec else None
    ),
    "image and build.dockerfile are two bases: the file has a FROM of its own": lambda spec: (
        spec["image"] if "image" in spec and "dockerfile" in spec.get("build", {}) else None
    ),
    "dockerSteps and build.dockerfile are two lists of steps": lambda spec: (
        spec["build"]["dockerfile"] if spec.get("dockerSteps") and "dockerfile" in spec.get("build", {}) else None
    ),
    "context belongs to docker steps, and there are none": lambda spec: (
        spec["context"] if "context" in spec and not _has_steps(spec) else None
    ),
    "secrets belong to docker steps, and there are none": lambda spec: (
        ", ".join(secret["id"] for secret in spec.get("secrets", ())) or None if not _has_steps(spec) else None
    ),
    "the path is absolute, has a backslash, or leaves the code folder with `..`": _if(
        lambda path: path.startswith("/") or "\\" in path or ".." in path.split("/")
    ),
    "this is not a registry's host and path": _if(lambda url: not _HOST_AND_PATH.match(url)),
    # The value is not shown: it may hold credentials.
    "this is not an http or https URL, or it has credentials in it": lambda url: (
        None if re.match(r"https?://[^/@ ]+(/[^@ ]*)?\Z", url) else ""
    ),
    "address is not an address of BuildKit": _if(lambda url: not re.match(r"tcp://[A-Za-z0-9.-]+:[0-9]{1,5}\Z", url)),
    "image has a blank in it": _if(lambda image: re.search(r"[\t\n\f\r ]", image) is not None),
    "url is not a storage URL": _if(lambda url: not re.match(r"s3://[a-z0-9][a-z0-9.-]+(/.*)?\Z", url)),
    "an alias is a name, not a reference: it has no azureml: in front and no @latest behind it": _any_key(
        lambda name: len(name) > 512 or name.startswith("azureml:") or "@" in name
    ),
    "quota.maxNodes and quota.maxGPUs stand beside defaults.queueName, whose ClusterQueue owns the quota": lambda spec: (
        spec["defaults"]["queueName"]
        if "queueName" in spec.get("defaults", {}) and spec.get("quota", {}).keys() & {"maxNodes", "maxGPUs"}
        else None
    ),
    "a namespace has one Workspace, and its name is `default`": _name_if(lambda name: name != "default"),
    "an input has exactly one of value (a literal), path (data), secretRef (a key of a Secret)": _one_of(
        "value", "path", "secretRef"
    ),
    "type, mode and digest belong to path": lambda value: (
        ", ".join(name for name in ("type", "mode", "digest") if name in value) or None
        if "value" in value or "secretRef" in value
        else None
    ),
    "valueFrom has exactly one of secretKeyRef, configMapKeyRef": _one_of("secretKeyRef", "configMapKeyRef"),
    # The value is not shown: it may be what should have been kept in a Secret.
    "a variable has value or valueFrom, not both": lambda variable: (
        variable["name"] if "value" in variable and "valueFrom" in variable else None
    ),
    "envFrom has exactly one of secretRef, configMapRef": _one_of("secretRef", "configMapRef"),
    "a prefix that starts with STOKER_ would make names that are Stoker's own": _if(
        lambda prefix: prefix.startswith("STOKER_")
    ),
    "path is neither a storage URL (s3://…) nor snapshot:sha256:<64 hex digits>": _if(
        lambda path: not path.startswith(("s3://", "file://")) and not re.match(r"snapshot:sha256:[0-9a-f]{64}\Z", path)
    ),
    "code has exactly one of snapshot, inline": _one_of("snapshot", "inline"),
    "an inline path is longer than 256 characters": _any_key(lambda path: len(path) > 256),
    "an inline path is absolute, or has a backslash or an empty, `.` or `..` part": _any_key(
        lambda path: _UNSAFE_PATH.search(path) is not None or "\\" in path
    ),
    "inline code is longer than 200 KiB (204800 characters)": _inline_length,
    "environment has exactly one of name, spec": _one_of("name", "spec"),
    "names that start with STOKER_ are Stoker's own": lambda variables: (
        ", ".join(one["name"] for one in variables if one["name"].startswith("STOKER_")) or None
    ),
    "a name has other characters than letters, digits and _, starts with a digit, or is longer than 64": _any_key(
        lambda name: not _PLAIN_NAME.match(name)
    ),
    f"a name is one of {', '.join(RESERVED_NAMES)}, which are reserved": _any_key(
        lambda name: name.lower() in RESERVED_NAMES
    ),
    "processCountPerInstance belongs to neither tensorflow nor ray": lambda distribution: (
        distribution["processCountPerInstance"]
        if "processCountPerInstance" in distribution and distribution.get("type") in ("tensorflow", "ray")
        else None
    ),
    "workerCount and parameterServerCount belong to tensorflow": lambda distribution: (
        distribution.get("type")
        if distribution.keys() & {"workerCount", "parameterServerCount"} and distribution.get("type") != "tensorflow"
        else None
    ),
    "port, includeDashboard, dashboardPort, headNodeAdditionalArgs and workerNodeAdditionalArgs belong to ray": (
        lambda distribution: (
            distribution.get("type") if distribution.get("type") != "ray" and distribution.keys() & _OF_RAY else None
        )
    ),
    "a node would have no worker: distribution.workerCount is less than resources.instanceCount": lambda block: (
        block["distribution"]["workerCount"]
        if block.get("distribution", {}).get("workerCount", _nodes(block)) < _nodes(block)
        else None
    ),
    "parameter servers run on one node: nothing on another node can tell them when the last worker has ended": (
        lambda block: (
            block["distribution"]["parameterServerCount"]
            if block.get("distribution", {}).get("parameterServerCount") and _nodes(block) > 1
            else None
        )
    ),
    "type command needs the block spec.command": lambda spec: (
        spec["type"] if spec["type"] == "command" and "command" not in spec else None
    ),
    "compute names no ComputeCluster: `local` is reserved": lambda spec: (
        spec["compute"] if spec.get("compute") == "local" else None
    ),
    "the command has a placeholder ${{...}} that names no declared input or output": _undeclared,
    "an exit code is not from 1 to 255": lambda codes: next((code for code in codes if not 1 <= code <= 255), None),
    "a TrainingJob's name has at most 63 lower-case letters, digits and dashes, for it becomes a label": (
        _long_or_dotted
    ),
}


def _left_queue(former: Mapping[str, Any], present: Mapping[str, Any]) -> Any:
    before, after = former["spec"]["queue"], present["spec"]["queue"]
    if before == after or not (before.get("name") or after.get("name")):
        return None
    tries = former.get("status", {}).get("attempts", ())
    return after.get("name", "") if any(one.get("counted") is None for one in tries) else None


def _changed(member: str) -> Transition:
    return lambda former, present: member if former.get(member) != present.get(member) else None


_TRANSITIONS: dict[str, Transition] = {
    "cancel goes from false to true only": lambda former, present: (
        "false" if former["cancel"] and not present["cancel"] else None
    ),
    "queue is immutable once a run has its nodes": lambda former, present: (
        former["status"]["phase"]
        if former["spec"]["queue"] != present["spec"]["queue"] and former.get("status", {}).get("phase") in PLACED
        else None
    ),
    "queue is immutable once the run stands in it": _left_queue,
    **{f"{member} is immutable: a TrainingJob runs once": _changed(member) for member in IMMUTABLE},
}


def offence(message: str, present: Any, former: Any = None) -> Any:
    """What offends the rule of this message in a value, or None. former: the value before an update, if it is one.

    Raises KeyError for a rule that has no twin.
    """
    if message in _TRANSITIONS:
        return _TRANSITIONS[message](former, present) if former is not None else None
    return _TWINS[message](present)


def without_twin() -> list[str]:
    """Messages of rules in the schemas that have no twin, and of twins that have no rule."""
    there = {message for kind in KINDS for message in _messages(kind_schema(kind))}
    return sorted(there ^ (_TWINS.keys() | _TRANSITIONS.keys()))


def _messages(schema: Schema) -> set[str]:
    found = {rule.message for rule in schema.get(RULES_KEY, ())}
    parts = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    return found.union(*(_messages(part) for part in parts if isinstance(part, dict)))
