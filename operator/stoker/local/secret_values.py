"""What a local run takes from the shell in place of a cluster's Secrets and ConfigMaps, which it cannot read.

Values stay in the environment of the command: the record names the Secret, the command's text the variable.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from stoker.errors import BadInput, BadInputs

FRONT = "STOKER_SECRET_"


def secret_inputs(spec: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """The value of each secret input by name, from STOKER_SECRET_<name>. Raises BadInputs that names each one that is not
    there. spec: a TrainingJob's."""
    names = [name for name, entry in spec.get("inputs", {}).items() if "secretRef" in entry]
    missing = tuple(
        BadInput(
            f"inputs.{name}",
            f"is {_named('secretKeyRef', spec['inputs'][name]['secretRef'])}, and a local run reads no Secret",
            f"put the value into the environment: export {FRONT}{name}=…",
        )
        for name in names
        if FRONT + name not in environment
    )
    if missing:
        raise BadInputs(missing)
    return {name: environment[FRONT + name] for name in names}


def drawn_variables(spec: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """The value of each variable with `valueFrom`, from the shell's variable of that name; optional ones may be missing.
    Raises BadInputs that names each other one that is. spec: a TrainingJob's."""
    found, missing = {}, []
    for name, source in _drawn(spec):
        if name in environment:
            found[name] = environment[name]
        elif not all(reference.get("optional") for reference in source.values()):
            fix = f"put the value into the environment: export {name}=…"
            named = ", ".join(_named(member, reference) for member, reference in source.items())
            what = f"comes from {named}, which a local run does not read"
            missing.append(BadInput(f"command.env[{name}].valueFrom", what, fix))
    if missing:
        raise BadInputs(tuple(missing))
    return found


def unread(spec: Mapping[str, Any]) -> str:
    """What a local run says of `envFrom`: which objects it does not read; empty when there are none."""
    named = [
        f"{kind} {one[member]['name']}"
        for one in spec.get("command", {}).get("envFrom", ())
        for member, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap"))
        if member in one
    ]
    return (
        f"envFrom: {', '.join(named)} not read on this machine; the command sees your shell's variables"
        if named
        else ""
    )


def _drawn(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for variable in spec.get("command", {}).get("env", ()):
        if variable.get("valueFrom"):
            yield variable["name"], variable["valueFrom"]


def _named(member: str, reference: Mapping[str, Any]) -> str:
    kind = "Secret" if member == "secretKeyRef" else "ConfigMap"
    return f"key {reference.get('key')} of {kind} {reference.get('name')}"
