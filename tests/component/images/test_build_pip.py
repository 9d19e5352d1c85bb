"""The builder and pip: images of lists of requirements, in a real registry."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import uv

from lab import packages
from stoker.core.environment import keys
from stoker.core.environment.request import Mirrors
from stoker.images.wheel import Layout
from tests.support import environments, registries
from tests.support.environments import Built, build, push_base, request
from tests.support.registries import RunningRegistry

SCIENCE = ("lightgbm", "numpy", "pandas", "scikit-learn", "stoker-tiny==1.0")
LAYOUT = Layout(keys.PREFIX, "3.11")


@pytest.fixture(scope="module")
def science(
    registry: RunningRegistry, base: str, served: packages.Packages, tmp_path_factory: pytest.TempPathFactory
) -> Built:
    """The environment that most tests look at, built once."""
    folder = tmp_path_factory.mktemp("science")
    built = build(request(registry, base, served, pip={"requirements": list(SCIENCE)}), folder)
    assert 0 == built.code, built.log
    return built


@pytest.fixture(scope="module")
def root(registry: RunningRegistry, science: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environments.unpack(registry, science.result.image, tmp_path_factory.mktemp("root"))


def run_in(root: Path, *code: str) -> str:
    """Runs code with the environment's packages and nothing else of this machine but the interpreter."""
    site = f"{root}{LAYOUT.site_packages}"
    start = f"import site, sys; site.addsitedir({site!r}); "
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", start + "; ".join(code)], capture_output=True, text=True, timeout=120
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def test_the_root_is_what_an_ordinary_install_of_the_same_lock_leaves(
    registry: RunningRegistry, science: Built, root: Path, served: packages.Packages, base: str, tmp_path: Path
) -> None:
    """Left aside, and nothing else: bytecode and its lines in RECORD, what installers write about themselves, the
    frame of the venv, and scripts: they name the prefix, and each installer has its own words for console scripts."""
    wanted = request(registry, base, served, pip={"requirements": list(SCIENCE)})
    pinned = [f"{one.name}=={one.version}" for one in environments.lock_of(registry, science, wanted.spec_key).packages]
    ordinary = tmp_path / "env"
    uv_command = [uv.find_uv_bin(), "--no-config", "--quiet"]
    subprocess.run([*uv_command, "venv", "--python", sys.executable, str(ordinary)], check=True)
    subprocess.run(
        [
            *(*uv_command, "pip", "install", "--no-deps", "--no-cache", "--default-index", served.pypi),
            *("--python", str(ordinary / "bin/python"), *pinned),
        ],
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )

    expected = environments.installed(ordinary)
    actual = environments.installed(root / keys.PREFIX.lstrip("/"))

    frame = {
        ".gitignore",
        ".lock",
        "CACHEDIR.TAG",
        "pyvenv.cfg",
        "lib64",
        "bin/python",
        "bin/python3",
        "bin/python3.11",
        "bin/pip",
        "bin/pip3",
    }
    activation = {
        name for name in expected if name.startswith("bin/activate") or name in ("bin/deactivate.bat", "bin/pydoc.bat")
    }
    own = {name for name in expected if name.rpartition("/")[2] in ("_virtualenv.py", "_virtualenv.pth")}
    about_installers = {name for name in expected if name.rpartition("/")[2] in ("INSTALLER", "REQUESTED")}
    scripts = {"bin/f2py", "bin/numpy-config", "bin/stoker-tiny", "bin/stoker-tiny-old"}
    records = {name for name in expected if name.endswith(".dist-info/RECORD")}
    aside = frame | activation | own | about_installers | scripts | records
    assert {n: v for n, v in expected.items() if n not in aside} == {
        n: v for n, v in actual.items() if n not in aside and not n.endswith(".pyc")
    }
    assert {name for name in expected if name in scripts | records} == {n for n in actual if n in scripts | records}
    for name in records:
        lines = (ordinary / name).read_text().splitlines()
        here = (root / keys.PREFIX.lstrip("/") / name).read_text().splitlines()
        left = ("INSTALLER", "REQUESTED")
        assert sorted(
            line for line in lines if not line.partition(",")[0].endswith(left) and "../bin/" not in line
        ) == sorted(line for line in here if ".pyc," not in line and "../bin/" not in line)


def test_numpy_pandas_sklearn_and_lightgbm_run(root: Path) -> None:
    said = run_in(
        root,
        "import numpy, pandas, sklearn.linear_model, lightgbm",
        "x = numpy.arange(20.0).reshape(-1, 1)",
        "m = sklearn.linear_model.LinearRegression().fit(x, 2 * x[:, 0])",
        "d = lightgbm.Dataset(x, x[:, 0] > 9)",
        "lightgbm.train({'verbose': -1, 'min_data': 1}, d, 1)",
        "print(round(m.coef_[0], 6), pandas.DataFrame({'a': [1, 2]}).a.sum())",
    )

    assert "2.0 3" == said.strip()


def test_the_list_of_packages_is_the_lock(
    registry: RunningRegistry, science: Built, root: Path, base: str, served: packages.Packages
) -> None:
    wanted = request(registry, base, served, pip={"requirements": list(SCIENCE)})
    locked = sorted(
        (one.name, one.version) for one in environments.lock_of(registry, science, wanted.spec_key).packages
    )

    said = run_in(
        root,
        "import importlib.metadata as m, re",
        f"found = m.distributions(path=[{str(root) + LAYOUT.site_packages!r}])",
        "print(sorted((re.sub(r'[-_.]+', '-', d.name).lower(), d.version) for d in found))",
    )

    assert str(locked) == said.strip()


def test_console_scripts_start_the_environments_python(root: Path) -> None:
    script = root / "opt/stoker/env/bin/stoker-tiny"

    assert f"#!{keys.PREFIX}/bin/python" == script.read_text().splitlines()[0]
    assert script.stat().st_mode & 0o111
    assert "from stoker_tiny import main" in script.read_text()
    assert f"#!{keys.PREFIX}/bin/python" == (root / "opt/stoker/env/bin/stoker-tiny-old").read_text().splitlines()[0]
    assert (
        "tiny 1.0"
        == run_in(
            root,
            "import importlib.metadata as m",
            f"found = m.distributions(path=[{str(root) + LAYOUT.site_packages!r}])",
            "[e.load()() for d in found for e in d.entry_points if e.name == 'stoker-tiny']",
        ).strip()
    )


def test_modules_are_compiled_and_python_takes_the_bytecode(root: Path) -> None:
    said = run_in(
        root,
        "sys.dont_write_bytecode = True",
        "import numpy.linalg as one, importlib.util as u",
        "data = open(u.cache_from_source(one.__file__), 'rb').read()",
        "print(data[:4] == u.MAGIC_NUMBER, int.from_bytes(data[4:8], 'little'))",
    )

    assert "True 1" == said.strip()


def test_packages_own_tests_are_there_as_sources(root: Path) -> None:
    site = root / LAYOUT.site_packages.lstrip("/")

    assert (site / "pandas/tests/test_common.py").exists()
    assert (site / "pandas/core/__pycache__/frame.cpython-311.pyc").exists()
    assert not (site / "pandas/tests/__pycache__").exists()


def test_path_and_virtual_env_name_the_environment(registry: RunningRegistry, science: Built) -> None:
    variables = environments.config_of(registry, science.result.image)["config"]["Env"]

    assert [
        f"PATH={keys.PREFIX}/bin:/usr/local/bin:/usr/bin",
        "PYTHON_VERSION=3.11.7",
        f"VIRTUAL_ENV={keys.PREFIX}",
    ] == variables


def test_two_builds_of_one_lock_give_one_digest(
    base: str, registry: RunningRegistry, science: Built, served: packages.Packages, tmp_path: Path
) -> None:
    """In a registry that has nothing yet, so that every layer is made anew."""
    with registries.registry(tmp_path) as empty:
        other_base = push_base(empty)
        wanted = request(empty, other_base, served, pip={"requirements": list(SCIENCE)})
        # The same base under the same name, as a second workspace's builder would name it.
        wanted = msgspec.structs.replace(wanted, steps_key=keys.steps_key((), None, base, environments.PLATFORM))
        again = build(wanted, tmp_path)

    assert 0 == again.code, again.log
    assert science.result.image.partition("@")[2] == again.result.image.partition("@")[2]


def test_one_package_more_sends_that_package_alone(
    registry: RunningRegistry, base: str, served: packages.Packages, science: Built, tmp_path: Path
) -> None:
    wanted = request(registry, base, served, pip={"requirements": [*SCIENCE, "stoker-source"]})

    more = build(wanted, tmp_path)

    assert 0 == more.code, more.log
    assert 0 < more.result.uploaded_bytes < 30_000
    assert "1 made" in more.log


def test_the_same_set_in_another_repository_sends_nothing_but_documents(
    registry: RunningRegistry, base: str, served: packages.Packages, science: Built, tmp_path: Path
) -> None:
    wanted = request(
        registry,
        base,
        served,
        pip={"requirements": list(SCIENCE)},
        registry=f"{registry.address}/other",
        trusted=(f"{registry.address}/team",),
    )

    other = build(wanted, tmp_path)

    assert 0 == other.code, other.log
    assert science.result.image.partition("@")[2] == other.result.image.partition("@")[2]
    assert other.result.uploaded_bytes < 20_000
    environments.unpack(registry, other.result.image, tmp_path / "root")


def test_what_a_trusted_registry_has_on_record_is_taken_over_without_solving(
    registry: RunningRegistry, base: str, served: packages.Packages, science: Built, tmp_path: Path
) -> None:
    """There is no index to solve with."""
    known = request(registry, base, served, pip={"requirements": list(SCIENCE)})
    elsewhere = msgspec.structs.replace(
        known,
        registry=f"{registry.address}/beside",
        trusted=(f"{registry.address}/team",),
        mirrors=Mirrors(pypi="http://127.0.0.1:9/simple"),
    )
    asking_anew = msgspec.structs.replace(elsewhere, refresh="1", registry=f"{registry.address}/anew")

    taken = build(elsewhere, tmp_path)
    refreshed = build(asking_anew, tmp_path)

    assert 0 == taken.code, taken.log
    assert science.result.image.partition("@")[2] == taken.result.image.partition("@")[2]
    assert "solve" not in taken.log
    place = taken.result.image.partition("@")[0]
    assert environments.manifest_of(registry, f"{place}@spec-{keys.short(known.spec_key)}")["annotations"]
    assert "IndexUnreachable" == refreshed.result.reason


def test_a_record_of_other_layers_is_not_taken_over(
    registry: RunningRegistry, base: str, served: packages.Packages, science: Built, tmp_path: Path
) -> None:
    known = request(registry, base, served, pip={"requirements": list(SCIENCE)})
    without_bytecode = msgspec.structs.replace(
        known,
        registry=f"{registry.address}/sources",
        trusted=(f"{registry.address}/team",),
        bytecode=False,
        mirrors=Mirrors(pypi="http://127.0.0.1:9/simple"),
    )

    built = build(without_bytecode, tmp_path)

    assert "IndexUnreachable" == built.result.reason


def test_a_spec_with_a_known_lock_leaves_its_record_only(
    registry: RunningRegistry, base: str, served: packages.Packages, science: Built, tmp_path: Path
) -> None:
    wanted = request(registry, base, served, pip={"requirements": [*SCIENCE, "scipy"]})

    built = build(wanted, tmp_path)

    assert 0 == built.code, built.log
    assert science.result.image == built.result.image
    assert 0 == built.result.uploaded_bytes
    place, _, image_digest = built.result.image.partition("@")
    record = environments.manifest_of(registry, f"{place}@spec-{keys.short(wanted.spec_key)}")
    assert {
        "dev.stoker.spec-key": wanted.spec_key,
        "dev.stoker.definition-key": wanted.definition_key,
        "dev.stoker.lock-key": science.result.lock_key,
        "dev.stoker.image-digest": image_digest,
        "dev.stoker.image-size": str(science.result.size_bytes),
        "dev.stoker.refresh": "",
    } == record["annotations"]


def test_an_image_has_its_bill_of_materials_and_its_provenance(registry: RunningRegistry, science: Built) -> None:
    place, _, image_digest = science.result.image.partition("@")

    found = environments.with_client(registry, lambda client: client.referrers(place, image_digest))

    assert ["application/spdx+json", "application/vnd.in-toto+json"] == sorted(one["artifactType"] for one in found)


def test_a_source_only_package_is_built_in_the_builder(
    registry: RunningRegistry, base: str, served: packages.Packages, tmp_path: Path
) -> None:
    wanted = request(
        registry, base, served, pip={"requirements": ["stoker-source"]}, registry=f"{registry.address}/src"
    )

    built = build(wanted, tmp_path, STOKER_BUILDER_IMAGE="stoker@sha256:1")

    assert 0 == built.code, built.log
    root = environments.unpack(registry, built.result.image, tmp_path / "root")
    assert "True" == run_in(root, "import stoker_source", "print(stoker_source.BUILT)").strip()


@pytest.mark.parametrize(
    ("requirements", "reason", "where"),
    [
        (["numpy<1.20", "pandas"], "PipUnsatisfiable", "pip.requirements[0]: numpy<1.20"),
        (["nonesuch-package"], "PackageNotFound", "pip.requirements[0]: nonesuch-package"),
        (["stoker-tiny==9"], "PipUnsatisfiable", "pip.requirements[0]: stoker-tiny==9"),
    ],
)
def test_an_unsolvable_list_names_the_line_and_leaves_nothing(
    requirements: list[str],
    reason: str,
    where: str,
    registry: RunningRegistry,
    base: str,
    served: packages.Packages,
    tmp_path: Path,
) -> None:
    built = build(request(registry, base, served, pip={"requirements": requirements}), tmp_path)

    assert (1, reason, False) == (built.code, built.result.reason, built.result.transient)
    assert where in built.result.where
    assert requirements[0].partition("<")[0].partition("=")[0] in built.result.message
    assert "made" not in built.log


def test_an_index_that_cannot_be_reached_is_worth_another_try(
    registry: RunningRegistry, base: str, tmp_path: Path
) -> None:
    nowhere = packages.Packages("http://127.0.0.1:9")

    built = build(request(registry, base, nowhere, pip={"requirements": ["numpy"]}), tmp_path)

    assert (2, "IndexUnreachable", True) == (built.code, built.result.reason, built.result.transient)


def test_a_base_without_glibc_is_refused(registry: RunningRegistry, served: packages.Packages, tmp_path: Path) -> None:
    alpine = push_base(registry, "bases/alpine", {"lib/ld-musl-x86_64.so.1": b"x", "usr/local/bin/python3.11": b"x"})

    built = build(request(registry, alpine, served, pip={"requirements": ["numpy"]}), tmp_path)

    assert (1, "BaseImageUnsupported", "image") == (built.code, built.result.reason, built.result.where)


def test_a_base_without_python_gets_one_of_the_environments_own(
    registry: RunningRegistry, served: packages.Packages, tmp_path: Path
) -> None:
    bare = push_base(
        registry, "bases/bare", {k: v for k, v in environments.FILES.items() if "python" not in k}, ("PATH=/usr/bin",)
    )
    wanted = request(registry, bare, served, pip={"requirements": ["numpy", "stoker-tiny"]})

    built = build(wanted, tmp_path)

    assert 0 == built.code, built.log
    root = environments.unpack(registry, built.result.image, tmp_path / "root")
    said = environments.at_its_prefix(
        root,
        f"{keys.PREFIX}/bin/python -I -c 'import numpy, sys; print(sys.prefix, numpy.arange(3).sum())'",
        f"{keys.PREFIX}/bin/stoker-tiny",
    )
    assert [f"{keys.PREFIX} 3", "tiny 2.0"] == said
    assert [f"PATH={keys.PREFIX}/bin:/usr/bin"] == environments.config_of(registry, built.result.image)["config"]["Env"]


def test_pip_is_the_bases_told_to_work_on_the_environment_unless_the_list_brings_one(
    registry: RunningRegistry, root: Path, base: str, served: packages.Packages, tmp_path: Path
) -> None:
    """On PATH the base's own would be next, which sees other packages than the environment's Python."""
    wanted = request(registry, base, served, pip={"requirements": ["pip", "stoker-tiny==1.0"]})

    built = build(wanted, tmp_path)

    assert 0 == built.code, built.log
    other = environments.unpack(registry, built.result.image, tmp_path / "root")
    for name in ("pip", "pip3"):
        of_the_base = (root / "opt/stoker/env/bin" / name).read_text().splitlines()
        assert f'exec /usr/local/bin/python3.11 -m pip --python {keys.PREFIX}/bin/python "$@"' == of_the_base[-1]
        assert f"#!{keys.PREFIX}/bin/python" == (other / "opt/stoker/env/bin" / name).read_text().splitlines()[0]


def test_the_first_python_of_the_base_that_packages_support_is_the_environments(
    registry: RunningRegistry, served: packages.Packages, tmp_path: Path
) -> None:
    """Whichever version it is; the builder's own has no part in it but for bytecode."""
    newer = {**{k: v for k, v in environments.FILES.items() if "python" not in k}, "usr/bin/python3.12": b"no program"}
    env = ("PATH=/usr/bin",)
    wanted = request(
        registry, push_base(registry, "bases/newer", newer, env), served, pip={"requirements": ["stoker-tiny==1.0"]}
    )

    built = build(wanted, tmp_path)

    assert 0 == built.code, built.log
    assert "3.12" == environments.lock_of(registry, built, wanted.spec_key).python
    prefix = environments.unpack(registry, built.result.image, tmp_path / "root") / "opt/stoker/env"
    assert "/usr/bin/python3.12" == os.readlink(prefix / "bin/python")
    assert (prefix / "lib/python3.12/site-packages/stoker_tiny/__init__.py").is_file()
    assert "home = /usr/bin" in (prefix / "pyvenv.cfg").read_text()


def test_a_python_of_the_base_that_is_too_old_for_packages_is_passed_over(
    registry: RunningRegistry, served: packages.Packages, tmp_path: Path
) -> None:
    old = {**{k: v for k, v in environments.FILES.items() if "python" not in k}, "usr/bin/python3.7": b"no program"}
    base = push_base(registry, "bases/old", old, ("PATH=/usr/bin",))

    built = build(request(registry, base, served, pip={"requirements": ["stoker-tiny==1.0"]}), tmp_path)

    assert 0 == built.code, built.log
    root = environments.unpack(registry, built.result.image, tmp_path / "root")
    # What python -m venv and conda give too: whichever of the names a script asks for, it is not the base's.
    said = environments.at_its_prefix(
        root, *(f"{keys.PREFIX}/bin/{name} -I -c 'import sys; print(sys.prefix)'" for name in ("python", "python3"))
    )
    assert [keys.PREFIX] * 2 == said


def test_a_wheel_is_one_layer_whosever_the_python_is_unless_it_has_headers(
    registry: RunningRegistry, base: str, served: packages.Packages, tmp_path: Path
) -> None:
    """They lie beside those of the environment's own Python, and apart where the Python is the base's."""
    folder = tmp_path / "index"
    (folder / "files").mkdir(parents=True)
    packages.make_wheel(folder / "files", "plain", "1.0", {"plain.py": ""})
    packages.make_wheel(folder / "files", "bringing", "1.0", {"bringing.py": ""}, data={"headers/it.h": "#define IT\n"})
    packages.write_index(folder)
    no_python = {name: content for name, content in environments.FILES.items() if "python" not in name}
    bare = push_base(registry, "bases/bare", no_python, ("PATH=/usr/bin",))
    told, roots = [], []
    with packages.serving(folder) as other:
        for below in (base, bare):
            wanted = request(
                registry,
                below,
                other,
                pip={"requirements": ["plain", "bringing"]},
                registry=f"{registry.address}/shared",
            )
            mirrors = msgspec.structs.replace(wanted.mirrors, python=served.pythons)
            built = build(msgspec.structs.replace(wanted, mirrors=mirrors), tmp_path)
            assert 0 == built.code, built.log
            told.append(next(line for line in built.log.splitlines() if line.startswith("packages")))
            roots.append(environments.unpack(registry, built.result.image, tmp_path / f"root-{len(roots)}"))

    assert "0 layers found, 3 made" in told[0], "both wheels and the frame"
    assert "1 layers found, 2 made" in told[1], "the plain wheel; the other one and a Python"
    assert ["site/python3.11/bringing/it.h", "python3.11/bringing/it.h"] == [
        str(found.relative_to(root / "opt/stoker/env/include")) for root in roots for found in root.rglob("it.h")
    ]


def test_a_package_that_wants_another_python_is_told_with_both_versions(
    registry: RunningRegistry, base: str, served: packages.Packages, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    (folder / "files").mkdir(parents=True)
    packages.make_wheel(folder / "files", "wants-newer", "1.0", {"wants_newer.py": ""}, python=">=3.13")
    packages.write_index(folder)
    with packages.serving(folder) as other:
        built = build(request(registry, base, other, pip={"requirements": ["wants-newer"]}), tmp_path)

    assert (1, "PipUnsatisfiable", "pip.requirements[0]: wants-newer") == (
        built.code, built.result.reason, built.result.where,
    )  # fmt: skip
    assert "3.11.7" in built.result.message
    assert "3.13" in built.result.message
    assert "conda" in built.result.message, "says how to get another Python"


def test_a_registry_is_connected_to_at_its_address_and_keeps_its_name(
    registry: RunningRegistry, base: str, served: packages.Packages, tmp_path: Path
) -> None:
    """As the chart's own registry: nodes know it by another name than pods do."""
    name = "registry.example.com:5000"
    wanted = request(
        registry, base.replace(registry.address, name), served,
        pip={"requirements": ["stoker-tiny==1.0"]}, registry=f"{name}/named", insecure=(name,),
        addresses={name: registry.address},
    )  # fmt: skip

    built = build(wanted, tmp_path)

    assert 0 == built.code, built.log
    assert built.result.image.startswith(f"{name}/named/environments@sha256:")
    assert environments.manifest_of(registry, built.result.image.replace(name, registry.address))["layers"]
