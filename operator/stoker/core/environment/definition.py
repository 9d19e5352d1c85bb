"""What goes into an environment, in the one form that its key is made from."""

import posixpath
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

from stoker.api.environment import EnvironmentSpec
from stoker.api.schema import Spec
from stoker.core import reference, yaml12
from stoker.core.environment import basefile, context, steps
from stoker.core.environment.conda import Conda
from stoker.core.environment.dockerfile import Step
from stoker.core.environment.pip import Files, Pip, conflicts, logical_lines
from stoker.core.environment.problems import BadDefinition, Place, Problem
from stoker.runtime.wire import Entry


class Definition(Spec):
    """An environment's content. image: normal form, empty for none. steps: canonical texts. context_digest: only where a
    step reads the context. conda: `channels` in order and `dependencies` sorted. pip: `requirements`, `constraints`,
    `index` and `options`, those that are empty left out."""

    image: str = ""
    steps: tuple[str, ...] = ()
    context_digest: str | None = None
    conda: dict[str, Any] | None = None
    pip: dict[str, Any] | None = None
    cache_epoch: int = 0

    @property
    def plain(self) -> bool:
        """Whether it is an image as it is: nothing to look up and nothing to build."""
        return not self.steps and self.conda is None and self.pip is None

    def canonical(self) -> dict[str, Any]:
        """What definitionKey is the hash of; a new dict."""
        return {
            "image": self.image or None,
            "steps": list(self.steps),
            "contextDigest": self.context_digest,
            "conda": self.conda,
            "pip": self.pip,
            "cacheEpoch": self.cache_epoch,
        }


class _Reading:
    """A spec as far as it can be read with the files at hand."""

    def __init__(self, spec: EnvironmentSpec, files: Files) -> None:
        self.spec, self.files = spec, files
        self.wanted: list[str] = []
        self.problems: list[Problem] = []
        self.image, self.steps = self._base_and_steps()
        self.pip, self.conda = Pip(), Conda()
        self._packages()

    def _base_and_steps(self) -> tuple[str, tuple[Step, ...]]:
        spec = self.spec
        ids = {secret.id for secret in spec.secrets}
        dockerfile = spec.build.dockerfile if spec.build else None
        if dockerfile is None:
            texts = [(text, Place(("dockerSteps", number))) for number, text in enumerate(spec.docker_steps)]
            found, problems = steps.read(texts, ids, has_context=spec.context is not None)
            self.problems += problems
            return spec.image or "", found
        text = self._file(dockerfile, ("build", "dockerfile"))
        if text is None:
            return "", ()
        place = Place(("build", "dockerfile"), posixpath.normpath(dockerfile))
        image, found, problems = basefile.read(text, place, ids)
        self.problems += problems
        return image, found

    def _file(self, path: str, at: yaml12.Path) -> str | None:
        """A file of the code; None where it is not at hand, which is noted."""
        path = posixpath.normpath(path)
        if path not in self.files:
            self.wanted.append(path)
            return None
        text = self.files[path]
        if text is None:
            self.problems.append(
                Place(at).problem(f"there is no file {path} in the code", "name a file of the code folder")
            )
        return text

    def _packages(self) -> None:
        spec, pip, conda = self.spec, self.pip, self.conda
        if spec.conda is not None and spec.conda_file is not None:
            conda.problems.append(
                Place(("condaFile",)).problem("conda and condaFile are two lists of packages", "keep one")
            )
        if isinstance(spec.conda, str):
            conda.take_text(spec.conda, Place(("conda",)), self.files, pip)
        elif spec.conda is not None:
            conda.take(spec.conda, Place(("conda",)), self.files, pip)
        if spec.conda_file is not None and (text := self._file(spec.conda_file, ("condaFile",))) is not None:
            place = Place(("condaFile",), posixpath.normpath(spec.conda_file))
            conda.take_text(text, place, self.files, pip)
        for number, item in enumerate(spec.pip):
            for line, _ in logical_lines(item):
                pip.take(line, Place(("pip", number)), self.files)
        if spec.pip_file is not None:
            pip.take_file(posixpath.normpath(spec.pip_file), Place(("pipFile",)), self.files)
        self.wanted += pip.wanted
        self.problems += [*conda.problems, *pip.problems, *conflicts(pip.parsed)]

    @property
    def reads_context(self) -> bool:
        return any(map(steps.reads_context, self.steps))


#: The last readings. A plan is made anew at every look, and its environment is the same at almost all of them.
_READINGS: OrderedDict[tuple[bytes, tuple[tuple[str, str | None], ...]], _Reading] = OrderedDict()
_MOST_READINGS = 64


def _reading(spec: EnvironmentSpec, files: Files | None) -> _Reading:
    """What a spec says, from memory where it was read before. Nobody changes a reading once it is made."""
    key = (msgspec.json.encode(spec), tuple(sorted((files or {}).items())))
    reading = _READINGS.pop(key, None) or _Reading(spec, files or {})
    _READINGS[key] = reading
    while len(_READINGS) > _MOST_READINGS:
        _READINGS.popitem(last=False)
    return reading


def read(
    spec: EnvironmentSpec,
    files: Files | None = None,
    entries: Sequence[Entry] | None = None,
    *,
    image_needed: bool = True,
    with_context: bool = True,
) -> Definition:
    """The definition that a spec is, or BadDefinition with all that is wrong with it.

    files: what `files_wanted` asked for. entries: the listing of the code's snapshot; None where there is no code, which is
    a problem only if a step copies from it. image_needed: on a laptop packages alone are an environment. with_context: False
    leaves the context out, for a first check before the code is listed: the definition's keys are not yet the real ones.
    """
    reading = _reading(spec, files)
    problems = list(reading.problems)
    problems += [
        Place(("pipFile",)).problem(f"there is no file {path} in the code", "name a file of the code folder")
        for path in reading.wanted
    ]
    image, image_problem = _image(reading.image, spec, needed=image_needed)
    if image_problem is not None and (spec.image or not problems or not (spec.build and spec.build.dockerfile)):
        problems.insert(0, image_problem)
    digest, context_problems = _context(reading, entries) if with_context else (None, [])
    problems += context_problems
    if problems:
        raise BadDefinition(tuple(problems))
    return Definition(
        image=image,
        steps=tuple(step.text for step in reading.steps),
        context_digest=digest,
        conda=reading.conda.canonical(),
        pip=reading.pip.canonical(),
        cache_epoch=spec.cache_epoch,
    )


def files_wanted(spec: EnvironmentSpec, files: Files | None = None) -> tuple[str, ...]:
    """Paths in the code that must be read before `read`: to be asked again with what was read (None for a file that does not
    exist), since requirements files name others, until nothing is wanted."""
    return tuple(dict.fromkeys(_reading(spec, files).wanted))


def reads_context(spec: EnvironmentSpec, files: Files | None = None) -> bool:
    """Whether a step takes files from the context, so that `read` needs the listing of the code."""
    return _reading(spec, files).reads_context


def context_folder(spec: EnvironmentSpec) -> str:
    """The folder in the code that steps copy from; empty for the code's root."""
    if spec.context is not None:
        folder = posixpath.normpath(spec.context)
    else:
        folder = (
            posixpath.dirname(posixpath.normpath(spec.build.dockerfile)) if spec.build and spec.build.dockerfile else ""
        )
    return "" if folder == "." else folder


def _image(text: str, spec: EnvironmentSpec, *, needed: bool) -> tuple[str, Problem | None]:
    place = Place(("build", "dockerfile") if spec.build and spec.build.dockerfile else ("image",))
    if not text:
        fix = "name a base image, such as python:3.12-slim, or have the Workspace name one (defaults.image)"
        return "", place.problem("is missing", fix) if needed else None
    try:
        found = reference.parse(text)
    except reference.BadReference as error:
        message, _, fix = str(error).partition("; ")
        return "", place.problem(message, fix or "write one reference, such as registry.example.com/team/train:1")
    # A digest wins over a tag: with one, the tag says nothing.
    return (found.pinned(found.digest) if found.digest else str(found)), None


def _context(reading: _Reading, entries: Sequence[Entry] | None) -> tuple[str | None, list[Problem]]:
    named = reading.spec.context is not None or (reading.spec.build and reading.spec.build.dockerfile)
    # Without a folder to copy from, that alone is said, at the step.
    if not reading.reads_context or not named:
        return None, []
    spec, folder = reading.spec, context_folder(reading.spec)
    place = Place(("context",)) if spec.context is not None else Place(("build", "dockerfile"))
    if entries is None:
        fix = "submit the job with its code, or write files into the steps as heredocs"
        return None, [place.problem("a step copies files, and there is no code to take them from", fix)]
    inside = context.below(entries, folder)
    if not inside:
        return None, [place.problem(f"there is no folder {folder or '.'} in the code", "name a folder of the code")]
    problems = [
        step_place.problem(f"{source!r} is not in the context {folder or '.'}", "name a file or folder that is there")
        for step_place, source in _copied(reading)
        if not context.holds(inside, source)
    ]
    return context.context_digest(inside), problems


def _copied(reading: _Reading) -> list[tuple[Place, str]]:
    """Each path that a step copies from the context, with the place of the step."""
    spec = reading.spec
    if spec.build and spec.build.dockerfile:
        place = Place(("build", "dockerfile"), posixpath.normpath(spec.build.dockerfile))
        places = [(place.on(step.line), step) for step in reading.steps]
    else:
        places = []
        rest = list(reading.steps)
        for number, text in enumerate(spec.docker_steps):
            found, _ = steps.read([(text, Place(()))], (), has_context=True)
            places += [(Place(("dockerSteps", number)), step) for step in rest[: len(found)]]
            rest = rest[len(found) :]
    return [
        (place, source)
        for place, step in places
        if step.keyword in ("COPY", "ADD") and not step.values("from")
        for source in steps.sources(step)
        if steps.is_local(source)
    ]


__all__ = [
    "BadDefinition",
    "Definition",
    "Files",
    "Problem",
    "context_folder",
    "files_wanted",
    "read",
    "reads_context",
]
