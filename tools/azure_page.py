"""docs/azure.md: what becomes of each key of Azure ML's files, from the tables that the readers ask."""

from collections.abc import Iterator

from stoker.sdk.azureml import kinds, labels
from stoker.sdk.azureml.fields import COMMAND, COMPONENT, COMPUTE, ENVIRONMENT, RUNCONFIG, Field, Table

_TOP = """\
# Azure ML's files

`stoker run FILE` and `stoker job create -f FILE` take Azure ML's files as they are; `stoker convert FILE` prints the manifest that means the same, for Git.

```
stoker run job.yml                                  train here: a missing `compute` is this machine
stoker run job.yml --compute cpu                    train on the ComputeCluster cpu
stoker run .azureml/train.runconfig                 a run configuration of version 1
stoker job create -f environment.yml                create an Environment; the same for a compute file
stoker convert job.yml --code inline                a TrainingJob with its code in it; without --code the digest of a snapshot
stoker convert cluster.yml -o json                  a ComputeCluster
```

A file is taken by what is in it: by `type`, by its keys and, as a hint, by the last part of `$schema`. Paths are relative to the file that has them. Values
of a few words, such as a type or a mode, may be in any letters. An unknown key is an error, as is a malformed value: told with line and column, all of them at
once, and the command ends with 2. `git` as `--code` is refused for now: a TrainingJob has no `code.git` yet.

Below, **works** means: as the file says. **warns** means: the run goes on, and one warning names the key and says what happens instead. **refused** means:
the command ends with 2 and a message that names the key and a way out, for a run without it would be another run.
"""
_TITLES = (
    ("Command job", COMMAND, ()),
    ("Command component (in a job's `component`)", COMPONENT, (*COMMAND,)),
    ("Environment", ENVIRONMENT, ()),
    ("Compute", COMPUTE, ()),
    ("Run configuration, version 1", RUNCONFIG, ()),
)


def page() -> str:
    """The page's text."""
    parts = [_TOP]
    for title, table, same in _TITLES:
        parts += [f"\n## {title}\n", "| key | state | what becomes of it |", "|---|---|---|", *_rows(table, same)]
    parts += ["\n## Names of environments\n", *_names()]
    parts += ["\n## Kinds that are refused\n", "| kind | what is said |", "|---|---|"]
    parts += [f"| {kind} | {message}; {fix} |" for kind, (message, fix) in kinds.NOT_YET.items()]
    return "\n".join(parts) + "\n"


def _rows(table: Table, same: tuple[str, ...]) -> Iterator[str]:
    """Rows of a table. same: keys that the job's table has told already, where they mean the same."""
    left_out = [key for key in table if key in same and table[key] is COMMAND[key]]
    for key, field in table.items():
        if key not in left_out:
            yield f"| `{key}`{' (Stoker only)' if field.own else ''} | {field.state} | {_said(field)} |"
    if left_out:
        yield "| `environment`, `resources`, `distribution` and their keys | | as in a job; the job's own come first |"


def _said(field: Field) -> str:
    return (f"{field.says}; {field.fix}" if field.fix else field.says).replace("|", "\\|")


def _names() -> Iterator[str]:
    yield (
        "`environmentAliases` of the [Workspace](reference/workspace.md) come first: `sklearn-1.5`, `azureml/sklearn-1.5` or, for one version,\n"
        "`azureml/sklearn-1.5:12`, each with the name of an Environment of the namespace. A run on a cluster asks the Workspace; `stoker convert` takes\n"
        "it from `--workspace FILE`; a local run, a dry run and `stoker env hash` have only the table below.\n"
    )
    yield "A curated name, or a label of the registry `azureml`, that no alias has, is read by its name; X.Y is the version in it:\n"
    yield "| name | image | packages |"
    yield "|---|---|---|"
    for family in labels.FAMILIES:
        names = ", ".join(f"`{name}`" for name in family.names)
        yield f"| {names} | `python:3.N-slim`, N from `py3N` in the name, else 10 | `{family.package}==X.Y.*`, {', '.join(family.beside)} |"
    yield "\nAny other name is refused, with the alias to add."
