"""A run configuration of version 1, said in the words of version 2: each value keeps the line that it stands on."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from stoker.core.yaml12 import Document, text_of
from stoker.core.yaml12 import Path as FieldPath
from stoker.sdk.azureml import command
from stoker.sdk.azureml.fields import RUNCONFIG
from stoker.sdk.azureml.reading import Reader
from stoker.sdk.draft import Draft, shown

#: Folders of version 1 that a project keeps its configurations in.
_FOLDERS = (".azureml", "aml_config")
#: Whatever is below them stays unread.
_WHOLE = ("environment.spark", "environment.databricks", "spark", "hdi", "dataReferences", "data", "outputData")
_MPI = ("OpenMpi", "IntelMpi", "Mpi")


def read(document: Document, path: Path) -> Draft:
    """The draft that a run configuration asks for. path: of its file. Raises BadInputs with every problem."""
    folder = path.resolve().parent
    source = folder.parent if folder.name in _FOLDERS else folder
    reader = Reader(document, source)
    made = _Said(reader, folder)
    made.everything()
    reader.done()
    draft = command.read(made.document(), source)
    return replace(draft, warnings=(*reader.warnings, *draft.warnings))


class _Said:
    """A version 2 job in the making."""

    def __init__(self, reader: Reader, beside: Path) -> None:
        self.reader, self.beside = reader, beside
        self.root = reader.root
        self.value: dict[str, Any] = {"code": "."}
        self.places: dict[FieldPath, FieldPath] = {}

    def document(self) -> Document:
        """The job, with the lines of the file."""
        lines: dict[FieldPath, int] = {}
        columns: dict[FieldPath, int] = {}
        told = self.reader.document
        for new, old in self.places.items():
            for path in told.lines:
                if path[: len(old)] == old:
                    lines[(*new, *path[len(old) :])] = told.lines[path]
                    columns[(*new, *path[len(old) :])] = told.columns[path]
        return Document(self.value, told.source, lines, columns)

    def put(self, new: FieldPath, value: Any, old: FieldPath) -> None:
        """Say a value; nothing is said of none."""
        if value in (None, "", [], {}):
            return
        here = self.value
        for part in new[:-1]:
            here = here.setdefault(str(part), {})
            self.places.setdefault(new[:1], old)
        here[str(new[-1])] = value
        self.places[new] = old

    def get(self, *path: str) -> Any:
        """A value of the file, None for none."""
        here: Any = self.root
        for part in path:
            here = here.get(part) if isinstance(here, dict) else None
        return here

    def everything(self) -> None:
        """Say all of it; the reader has what is wrong."""
        self._keys((), {key: value for key, value in self.root.items() if key != "amlcompute" or self._makes_a_pool()})
        self._booleans()
        self._command()
        self._placement()
        self._environment()
        self._distribution()
        for key in ("data", "dataReferences", "outputData"):
            if self.root.get(key):
                self.reader.field((key,), RUNCONFIG[key])

    def _makes_a_pool(self) -> bool:
        return str(self.root.get("target")).lower() == "amlcompute"

    def _keys(self, at: FieldPath, value: dict[str, Any]) -> None:
        front = ".".join(map(str, at))
        given = {key: item for key, item in value.items() if item not in (None, "", [], {}) and key not in _WHOLE}
        self.reader.keys(at, given, RUNCONFIG, front)
        for key, item in value.items():
            place = f"{front}.{key}" if front else key
            inside = any(name.startswith(f"{place}.") for name in RUNCONFIG)
            if inside and isinstance(item, dict):
                self._keys((*at, key), item)
            elif inside and item is not None:
                self.reader.mapping((*at, key), item)

    def _booleans(self) -> None:
        for path in (("autoPrepareEnvironment",), ("history", "outputCollection"), ("history", "snapshotProject")):
            if self.get(*path) is False:
                self.reader.field(path, RUNCONFIG[f"{'.'.join(path)}: false"])
        watched = self.get("history", "directoriesToWatch")
        if isinstance(watched, list) and {text_of(one) for one in watched} - {"logs", "outputs"}:
            self.reader.field(("history", "directoriesToWatch"), RUNCONFIG["history.directoriesToWatch: others"])

    def _words(self, key: str) -> list[str]:
        value = self.root.get(key)
        if value is None:
            return []
        if isinstance(value, str):
            return shlex.split(value)
        if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
            return [text_of(item) for item in value]
        self.reader.bad((key,), f"{shown(value)} is not a list of words", "write one per line, each behind a dash")
        return []

    def _command(self) -> None:
        script, told = self.root.get("script"), self.root.get("command")
        if script and told:
            self.reader.bad(("command",), "stands beside script", "keep one of the two")
        elif told:
            self.put(("command",), told if isinstance(told, str) else shlex.join(self._words("command")), ("command",))
        elif isinstance(script, str):
            users = self.get("environment", "python", "userManagedDependencies") is True
            python = self.get("environment", "python", "interpreterPath") if users else None
            words = [str(python or "python"), script, *self._words("arguments")]
            self.put(("command",), shlex.join(words), ("script",))
            if not (self.reader.folder / script).is_file():
                fix = "name a file of the source directory"
                self.reader.bad(("script",), f"{shown(script)} is not a file in {self.reader.folder}", fix)
        else:
            self.reader.bad(("script",), "is missing", "name the script, such as script: train.py")

    def _placement(self) -> None:
        target = self.root.get("target")
        if self._makes_a_pool():
            target = self.get("amlcompute", "name")
            if not target:
                fix = "name the pool: amlcompute.name, or --compute"
                self.reader.bad(("target",), '"amlcompute" makes a pool for one run, which is not supported', fix)
        self.put(("compute",), target or "local", ("target",))
        self.put(("limits", "timeout"), self.root.get("maxRunDurationSeconds"), ("maxRunDurationSeconds",))
        self.put(("resources", "instance_count"), self.root.get("nodeCount"), ("nodeCount",))
        self.put(("display_name",), self.root.get("jobName"), ("jobName",))
        for front in (("environment", "docker"), ("docker",)):
            size = self.get(*front, "shmSize")
            self.put(("resources", "shm_size"), size, (*front, "shmSize"))

    def _environment(self) -> None:
        variables = ("environment", "environmentVariables")
        self.put(("environment_variables",), self.get(*variables), variables)
        image, python = self._image(), ("environment", "python")
        users = self.get(*python, "userManagedDependencies") is True
        inline, file = self.get(*python, "condaDependencies"), self.get(*python, "condaDependenciesFile")
        new, old = ("environment", "image"), ("environment", "docker", "baseImage")
        if not users and (inline or file):
            self.put(new, image, old)
            if inline:
                self.put(("environment", "conda_file"), inline, (*python, "condaDependencies"))
            else:
                self.put(("environment", "conda_file"), self._conda(file), (*python, "condaDependenciesFile"))
        elif name := self.get("environment", "name") if not users else None:
            self._named(text_of(name))
        elif image:
            self.put(new, image, old)
        else:
            self.put(("environment",), "system", ("environment",))

    def _named(self, name: str) -> None:
        version = self.get("environment", "version")
        behind = f":{text_of(version)}" if version not in (None, "") else "@latest"
        self.put(("environment",), f"azureml:{name}{behind}", ("environment", "name"))

    def _image(self) -> str | None:
        image = self.get("environment", "docker", "baseImage")
        host = self.get("environment", "docker", "baseImageRegistry", "address")
        return f"{host}/{image}" if image and host and not str(image).startswith(f"{host}/") else image

    def _conda(self, name: Any) -> str:
        for folder in (self.reader.folder, self.beside):
            if (folder / str(name)).is_file():
                return str(folder / str(name))
        at = ("environment", "python", "condaDependenciesFile")
        message = f"{shown(name)} is not a file in {self.reader.folder}"
        self.reader.bad(at, message, "name a conda file of the source directory")
        return str(name)

    def _one_of(self, key: str) -> str:
        """A value of the table in the table's letters; the first for none."""
        choices = [name.partition(": ")[2] for name in RUNCONFIG if name.startswith(f"{key}: ")]
        value = self.root.get(key)
        if value in (None, ""):
            return choices[0]
        found = next((one for one in choices if one.lower() == str(value).lower()), None)
        if found is None:
            self.reader.bad((key,), f"{shown(value)} is not one of {', '.join(choices)}", f"write {choices[0]}")
            return choices[0]
        self.reader.field((key,), RUNCONFIG[f"{key}: {found}"], f"{shown(value)}: ")
        return found

    def _distribution(self) -> None:
        framework, communicator = self._one_of("framework"), self._one_of("communicator")
        if communicator in _MPI:
            self._processes("mpi", ("communicator",))
            path = ("mpi", "processCountPerNode")
            self.put(("distribution", "process_count_per_instance"), self.get(*path) or 1, path)
        elif communicator == "ParameterServer":
            self._processes("tensorflow", ("communicator",))
            for new, old in (("worker_count", "workerCount"), ("parameter_server_count", "parameterServerCount")):
                self.put(("distribution", new), self.get("tensorflow", old), ("tensorflow", old))
        elif framework == "PyTorch" or communicator in ("Nccl", "Gloo"):
            self._processes("pytorch", ("framework",))
            self._pytorch_count()

    def _processes(self, kind: str, old: FieldPath) -> None:
        self.put(("distribution", "type"), kind, old)

    def _pytorch_count(self) -> None:
        path, nodes = ("pytorch", "processCount"), self.root.get("nodeCount") or 1
        count = self.get(*path)
        if isinstance(count, int) and isinstance(nodes, int) and count % nodes == 0:
            self.put(("distribution", "process_count_per_instance"), int(count // nodes), path)
        elif count is not None:
            self.reader.bad(path, f"{shown(count)} is not a multiple of nodeCount", "write the processes of all nodes")
