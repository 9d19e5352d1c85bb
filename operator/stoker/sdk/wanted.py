"""From the environment that a run names to what this machine has to have for it."""

from stoker.errors import BadInput
from stoker.local.environments.wanted import Wanted
from stoker.sdk.draft import EnvironmentAsked, shown


def wanted_here(asked: EnvironmentAsked | None) -> Wanted:
    """What this machine has to have. asked: prepared, with its definition. Raises BadInput for docker steps, which only a
    container runtime can do."""
    if asked is None:
        return Wanted()
    if asked.kind == "system":
        return Wanted(system=True)
    from stoker.core.environment.keys import definition_key

    definition = asked.definition
    assert definition is not None, "a local run has its code at hand"
    if definition.steps:
        raise BadInput(
            "environment.dockerSteps",
            f"the step {shown(definition.steps[0].splitlines()[0])} cannot run on this machine without a container runtime",
            "add --local-runtime docker (or podman), run with --compute NAME, or --environment system",
            asked.source,
        )
    conda = definition.conda or {}
    return Wanted(
        key=definition_key(definition),
        channels=tuple(conda.get("channels", ())),
        conda=tuple(conda.get("dependencies", ())),
        pip=asked.pip,
        constraints=asked.constraints,
        options=asked.options,
        folders=asked.folders,
        refresh=str(asked.spec.get("refresh") or ""),
    )
