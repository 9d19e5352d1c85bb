"""What a command wants of this machine: packages by conda and by pip, and a Python to run with."""

import platform
import re
from dataclasses import dataclass

from stoker.errors import BadInput

#: What conda names beside packages of its own: uv brings both as well, with no channel to ask.
_PYTHON_AND_PIP = frozenset({"python", "pip"})
_SPEC = re.compile(r"([A-Za-z0-9_.-]+)\s*(.*)\Z")
_PREFIX = re.compile(r"={0,2}\d+(\.\d+)*(\.\*)?\Z")


@dataclass(frozen=True)
class Wanted:
    """What a definition asks of this machine.

    key: the definition's, hex. channels, conda: names or URLs, and match specs, as in the definition. pip: PEP 508
    requirements, some with `--hash`. constraints: the same, for what others bring in. options: other lines of a
    requirements file, such as where packages come from; they may hold credentials and are never written down. folders:
    those options that mean folders of this machine, of which the definition says nothing.
    refresh: any text; another text has the packages chosen anew. system: take the Python that runs stoker, whatever it
    has.
    """

    key: str = ""
    channels: tuple[str, ...] = ()
    conda: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    refresh: str = ""
    system: bool = False

    @property
    def needs_conda(self) -> bool:
        """Whether a conda channel has to be asked: for anything but a version of Python, and pip."""
        return any(_only_a_version(spec) is None for spec in self.conda)

    @property
    def python(self) -> str:
        """What the conda part says of Python (`=3.11`, `>=3.10,<3.12`), empty for nothing."""
        clauses = [_only_a_version(spec) for spec in self.conda if _name(spec) == "python"]
        return ",".join(clause for clause in clauses if clause)


def _name(spec: str) -> str:
    match = _SPEC.match(spec)
    return match[1].lower() if match else ""


def _only_a_version(spec: str) -> str | None:
    """The version clause of `python` or `pip`, as one text; None for another package, a channel or a build."""
    match = _SPEC.match(spec.strip())
    if match is None or match[1].lower() not in _PYTHON_AND_PIP:
        return None
    clause = match[2].strip()
    if not clause:
        return ""
    # `python 3.11.*` and `python =3.11` are one clause; a second word, or `=1.2=build`, is a build.
    if re.fullmatch(r"[=<>!~]*\s*[\w.*]+(\s*,\s*[=<>!~]*\s*[\w.*]+)*", clause):
        return re.sub(r"\s+", "", clause)
    return None


def this_version() -> str:
    """Major and minor version of the Python that runs stoker."""
    return ".".join(platform.python_version_tuple()[:2])


def python_fits(wanted: str) -> bool:
    """Whether the Python that runs stoker is what a conda file asks for (`=3.11`, `3.11.*`, `>=3.10`)."""
    text = wanted.strip()
    if not text:
        return True
    have = platform.python_version()
    if _PREFIX.match(text):
        prefix = text.lstrip("=").removesuffix(".*")
        return (have + ".").startswith(prefix + ".")
    from stoker.runtime import packages

    try:
        return packages.satisfies(have, text)
    except ValueError:
        raise BadInput("dependencies", f"python{wanted} is not a version", "write such as python=3.11") from None


def python_request(wanted: str) -> str:
    """What a conda file says of Python, as uv reads it."""
    text = wanted.strip()
    return text.lstrip("=").removesuffix(".*") if _PREFIX.match(text) else text
