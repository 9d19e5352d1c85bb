"""Look-alikes of Azure ML's examples, `azureml/NAME/FILE`, and what each is converted to: `azureml_goldens/NAME.yaml`.

`python -m tests.support.azure_goldens` writes what they are converted to now.
"""

from pathlib import Path

from stoker.cli.output import as_yaml
from stoker.sdk.azureml.labels import Known
from stoker.sdk.convert import convert

FOLDER = Path(__file__).parent / "azureml"
GOLDENS = Path(__file__).parent / "azureml_goldens"
#: Files beside a job that are no jobs.
_PARTS = ("train.yml", "packages.yml")


def files() -> dict[str, Path]:
    """The files that are converted, by name."""
    found: dict[str, Path] = {}
    for project in sorted(FOLDER.iterdir()):
        there = [one for one in sorted(project.rglob("*")) if one.suffix in (".yml", ".runconfig")]
        jobs = [one for one in there if one.name not in _PARTS]
        for job in jobs:
            found[project.name if len(jobs) == 1 else f"{project.name}-{job.stem}"] = job
    return found


def names() -> list[str]:
    """Names of the look-alikes."""
    return list(files())


def converted(name: str) -> str:
    """Warnings as comments, then the manifest."""
    path = files()[name]
    found = convert(path, path.parent, "snapshot", Known({}))
    warnings = [line.replace(str(FOLDER), "") for line in found.warnings]
    return "".join(f"# {line}\n" for line in warnings) + as_yaml(found.document)


def expected(name: str) -> str:
    """The golden manifest."""
    return (GOLDENS / f"{name}.yaml").read_text()


if __name__ == "__main__":
    GOLDENS.mkdir(exist_ok=True)
    for one in names():
        (GOLDENS / f"{one}.yaml").write_text(converted(one))
