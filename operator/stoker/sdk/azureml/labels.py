"""References to environments of Azure ML, and what they mean here.

A Workspace's `environmentAliases` come first. Then curated names and labels of a registry go by the families below, and
`azureml:NAME:VERSION` is the namespace's Environment `NAME-vVERSION`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from stoker.errors import BadInput
from stoker.sdk.definitions import defined
from stoker.sdk.draft import EnvironmentAsked, shown


@dataclass(frozen=True)
class Label:
    """A reference. registry: empty for the workspace's own. version: empty for the newest."""

    registry: str
    name: str
    version: str

    @property
    def keys(self) -> tuple[str, ...]:
        """What `environmentAliases` may call it, the most exact first."""
        name = f"{self.registry}/{self.name}" if self.registry else self.name
        return (f"{name}:{self.version}", name) if self.version else (name,)

    @property
    def curated(self) -> bool:
        """Whether Azure ML has it, and not a workspace."""
        return bool(self.registry) or self.name.startswith(_CURATED)


@dataclass(frozen=True)
class Family:
    """Environments of one framework. words: what its names begin with. beside: what comes with the package itself."""

    words: tuple[str, ...]
    package: str
    beside: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names that it has, with X.Y for the version."""
        return tuple(f"{front}{word}-X.Y…" for word in self.words for front in ("", "AzureML-"))

    def version(self, name: str) -> str | None:
        """The version in a name, None for a name of another family."""
        word = "|".join(map(re.escape, self.words))
        found = re.match(rf"(?:azureml-)?(?:{word})-(\d+\.\d+)", name.lower())
        return found[1] if found else None


_CURATED = ("AzureML-", "azureml-")
_USUAL = ("pandas", "scipy", "matplotlib", "mlflow-skinny", "psutil", "tqdm")
FAMILIES = (
    Family(("sklearn", "scikit-learn"), "scikit-learn", ("joblib", *_USUAL)),
    Family(("pytorch", "acpt-pytorch"), "torch", ("torchvision", *_USUAL)),
    Family(("lightgbm",), "lightgbm", ("scikit-learn", "joblib", *_USUAL)),
)
_PYTHON = re.compile(r"py(3)(\d{1,2})(?!\d)")
_DEFAULT_PYTHON = "3.10"
_LONG = re.compile(r"(?:azureml:)?/subscriptions/.*/environments/([^/]+)/versions/([^/]+)\Z")
_OF_REGISTRY = re.compile(r"azureml://registries/([^/]+)/environments/([^/]+)(?:/(versions|labels)/([^/]+))?\Z")
_OF_WORKSPACE = re.compile(r"azureml:([A-Za-z0-9][A-Za-z0-9._-]*)(?::([A-Za-z0-9._-]+)|@([A-Za-z0-9._-]+))?\Z")
_FORMS = "write azureml:NAME:VERSION, azureml:NAME@latest, or azureml://registries/R/environments/NAME/labels/latest"


def is_label(text: str) -> bool:
    """Whether a text is a reference into Azure ML, and no file, image or Environment of the cluster."""
    return text.startswith(("azureml:", "/subscriptions/", _CURATED[0]))


def parse(text: str, field: str = "environment", where: str = "") -> Label:
    """Raises BadInput for a text that is no reference to an environment, or names no version."""
    if found := _LONG.match(text):
        return Label("", found[1], found[2])
    if found := _OF_REGISTRY.match(text):
        if found[3] == "labels" and found[4] != "latest":
            raise BadInput(field, f"{shown(text)}: {shown(found[4])} is not a label", "write labels/latest", where)
        return Label(found[1], found[2], found[4] if found[3] == "versions" else "")
    if text.startswith(_CURATED[0]):
        text = f"azureml:{text}"
        text = text if re.search(r"[:@]", text.partition(":")[2]) else f"{text}@latest"
    found = _OF_WORKSPACE.match(text)
    if found is None:
        raise BadInput(field, f"{shown(text)} is not a reference to an environment", _FORMS, where)
    if found[3] not in (None, "latest"):
        raise BadInput(field, f"{shown(text)}: {shown(found[3])} is not a label", "write @latest", where)
    label = Label("", found[1], found[2] or "")
    if found[2] is None and found[3] is None and not label.curated:
        raise BadInput(field, f"{shown(text)} has neither a version nor a label", _FORMS, where)
    return label


@dataclass(frozen=True)
class Known:
    """What a namespace says. aliases: a Workspace's `environmentAliases`. environments: names of its Environments, the
    newest last; None where nobody was asked."""

    aliases: Mapping[str, str]
    environments: tuple[str, ...] | None = None


NOBODY_ASKED = Known({})


def resolved(asked: EnvironmentAsked | None, known: Known) -> tuple[EnvironmentAsked | None, tuple[str, ...]]:
    """The environment that a reference means here, and what has to be said of it. Anything else stays as it is. Raises
    BadInput for a reference that means nothing here."""
    if asked is None or asked.kind != "label":
        return asked, ()
    label = parse(asked.name, asked.front or "environment", asked.where.get((), asked.source))
    for key in label.keys:
        if name := known.aliases.get(key):
            return replace(asked, kind="name", name=name), ()
    if not label.curated:
        return _of_namespace(asked, label, known.environments)
    return _of_family(asked, label)


def environment_name(name: str, version: str) -> str:
    """The Environment that `azureml:name:version` means; without a version the one of the name alone."""
    return f"{_plain(name)}-v{_plain(version)}" if version else _plain(name)


def _plain(text: str) -> str:
    """A part of an object's name; without a hash for what is lost, since people write it too."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")


def _of_namespace(
    asked: EnvironmentAsked, label: Label, there: Iterable[str] | None
) -> tuple[EnvironmentAsked, tuple[str, ...]]:
    if label.version:
        return replace(asked, kind="name", name=environment_name(label.name, label.version)), ()
    plain = environment_name(label.name, "")
    if there is None:
        words = f"{asked.name}: nobody was asked which version is the newest; Environment {plain} is named"
        return replace(asked, kind="name", name=plain), (_told(asked, words),)
    # A digit behind it: `base-vision` is another environment.
    versions = [name for name in there if re.match(rf"{re.escape(plain)}-v\d", name)]
    return replace(asked, kind="name", name=versions[-1] if versions else plain), ()


def _of_family(asked: EnvironmentAsked, label: Label) -> tuple[EnvironmentAsked, tuple[str, ...]]:
    text = label.name.lower()
    found = next(((family, version) for family in FAMILIES if (version := family.version(text))), None)
    front, where = asked.front or "environment", asked.where.get((), asked.source)
    if found is None or label.registry not in ("", "azureml"):
        fix = f"name another with --environment, or add {label.keys[-1]} to spec.environmentAliases of the Workspace"
        raise BadInput(front, f"{shown(asked.name)} has no counterpart here", fix, where)
    family, version = found
    python = _PYTHON.search(text)
    image = f"python:{f'{python[1]}.{python[2]}' if python else _DEFAULT_PYTHON}-slim"
    spec = {"image": image, "pip": [f"{family.package}=={version}.*", *family.beside]}
    words = f"{asked.name} is taken as {image} with {spec['pip'][0]} and {', '.join(family.beside)}"
    made = replace(asked, kind="packages", name="", spec=spec, source=label.name)
    return defined(made), (_told(asked, words),)


def _told(asked: EnvironmentAsked, words: str) -> str:
    return ": ".join(part for part in (asked.where.get((), asked.source), asked.front or "environment", words) if part)
