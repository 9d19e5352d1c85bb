"""The rules over a TrainingJob's spec: what belongs together, and what never changes."""

from stoker.api.schema import Rule

#: Members of spec that never change: a TrainingJob runs once.
IMMUTABLE = ("type", "experiment", "compute", "inputs", "outputs", "command", "retry", "runPolicy")
#: Names that would become variables of the shell's own (`$path` is PATH in some) when put in front of a command.
RESERVED_NAMES = ("path", "ld_library_path", "user", "logname", "home", "pwd", "shell")
NAME_RULES = (
    Rule(
        "self.all(n, n.matches('^[A-Za-z_][A-Za-z0-9_]{0,63}$'))",
        "a name has other characters than letters, digits and _, starts with a digit, or is longer than 64",
        "rename it: it becomes part of an environment variable",
    ),
    Rule(
        f"self.all(n, !(n.lowerAscii() in {list(RESERVED_NAMES)}))",
        f"a name is one of {', '.join(RESERVED_NAMES)}, which are reserved",
        "rename it",
    ),
)


_OPENING = "'${{'"


def _placed(text: str) -> str:
    """How often a text (a CEL expression) stands in the command, blanks aside, in CEL.

    Counting is what the API server's cost estimate allows; taking the placeholders apart is not.
    """
    return f"self.command.command.replace(' ', '').split({text}).size() - 1"


def _placed_for(block: str) -> str:
    placeholder = "'${{" + block + ".' + n + '}}'"
    return f"(has(self.{block}) ? self.{block}.map(n, {_placed(placeholder)}).sum() : 0)"


SPEC_RULES = (
    Rule(
        "self.type != 'command' || has(self.command)",
        "type command needs the block spec.command",
        "write spec.command with command and environment",
        at=".command",
    ),
    Rule(
        "!has(self.compute) || self.compute != 'local'",
        "compute names no ComputeCluster: `local` is reserved",
        "name a ComputeCluster (`kubectl get computeclusters`), or write serverless; for your own machine use `stoker run`",
        at=".compute",
        value="self.compute",
    ),
    Rule(
        f"!has(self.command) || {_placed(_OPENING)} == {_placed_for('inputs')} + {_placed_for('outputs')}",
        "the command has a placeholder ${{...}} that names no declared input or output",
        "declare it under spec.inputs or spec.outputs, or write $NAME for the shell",
        at=".command.command",
    ),
    Rule(
        "!oldSelf.cancel || self.cancel",
        "cancel goes from false to true only",
        "submit the job again under a new name",
        at=".cancel",
    ),
    *(
        Rule(
            f"has(self.{member}) == has(oldSelf.{member}) && (!has(self.{member}) || self.{member} == oldSelf.{member})",
            f"{member} is immutable: a TrainingJob runs once",
            "use a new name",
            at=f".{member}",
        )
        for member in IMMUTABLE
    ),
)
