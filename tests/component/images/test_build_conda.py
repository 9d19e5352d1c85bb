"""The builder and conda: images with packages of a channel made on the spot, with and without a pip part."""

import asyncio
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
from rattler import Channel, Gateway, GenericVirtualPackage, MatchSpec, PackageName, Subdir, Version, install, solve
from rattler.package import BuildString

from lab import packages
from stoker.core.environment import keys
from tests.support import environments
from tests.support.environments import Built, build, push_base, request
from tests.support.registries import RunningRegistry

DEPENDENCIES = ["native-conda", "pip", "post-link-conda", "python 3.11.*", "tiny-conda 1.*"]
MIXED = {"channels": ["lab"], "dependencies": DEPENDENCIES}
PIP = {"requirements": ["numpy", "stoker-source", "stoker-tiny"]}
ROOT = keys.PREFIX.lstrip("/")


@pytest.fixture(scope="module")
def base(registry: RunningRegistry) -> str:
    """A base that has a C library and no Python."""
    return push_base(
        registry, "bases/bare", {k: v for k, v in environments.FILES.items() if "python" not in k}, ("PATH=/usr/bin",)
    )


@pytest.fixture(scope="module")
def mixed(
    registry: RunningRegistry, base: str, served: packages.Packages, tmp_path_factory: pytest.TempPathFactory
) -> Built:
    wanted = request(registry, base, served, conda=MIXED, pip=PIP)
    built = build(wanted, tmp_path_factory.mktemp("mixed"), STOKER_BUILDER_IMAGE="stoker@sha256:1")
    assert 0 == built.code, built.log
    return built


@pytest.fixture(scope="module")
def root(registry: RunningRegistry, mixed: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environments.unpack(registry, mixed.result.image, tmp_path_factory.mktemp("root"))


def ordinary(served: packages.Packages, folder: Path) -> Path:
    """What py-rattler installs at the prefix."""

    async def run() -> None:
        records = await solve(
            [Channel(served.channel)],
            [MatchSpec(text, strict=False) for text in DEPENDENCIES],
            gateway=Gateway(cache_dir=folder / "repodata"),
            platforms=[Subdir("linux-64"), Subdir("noarch")],
            virtual_packages=[GenericVirtualPackage(PackageName("__glibc"), Version("2.36"), BuildString("0"))],
        )
        await install(
            records,
            folder / "env",
            cache_dir=folder / "cache",
            show_progress=False,
            alternative_target_prefix=keys.PREFIX,
        )

    asyncio.run(run())
    return folder / "env"


def test_the_root_is_what_an_ordinary_install_of_the_same_packages_leaves(
    root: Path, served: packages.Packages, registry: RunningRegistry, base: str, tmp_path: Path
) -> None:
    """Left aside, and nothing else: bytecode, and conda-meta's words about the install itself."""
    wanted = request(registry, base, served, conda=MIXED)
    built = build(wanted, tmp_path, STOKER_BUILDER_IMAGE="stoker@sha256:1")
    assert 0 == built.code, built.log
    expected = environments.installed(ordinary(served, tmp_path))
    actual = environments.installed(environments.unpack(registry, built.result.image, tmp_path / "root") / ROOT)

    made_by_script = {"share/post-link.txt"}
    about = {name for name in expected if name.startswith("conda-meta/")} | {"CACHEDIR.TAG"}
    assert {n: v for n, v in expected.items() if n not in about} == {
        n: v for n, v in actual.items() if n not in about | made_by_script and not n.endswith(".pyc")
    }
    assert {n for n in about if n.endswith(".json")} == {n for n in actual if n.startswith("conda-meta/")}


def test_with_a_pip_part_the_root_is_what_conda_and_then_pip_leave(
    root: Path, mixed: Built, registry: RunningRegistry, base: str, served: packages.Packages, tmp_path: Path
) -> None:
    """Left aside, and nothing else: bytecode, conda-meta's words about the install, what pip writes about itself
    (INSTALLER, REQUESTED, and their lines in RECORD), and of scripts the kind of quotes and python3.11 for python."""
    spec_key = request(registry, base, served, conda=MIXED, pip=PIP).spec_key
    locked = environments.lock_of(registry, mixed, spec_key).packages
    pinned = [f"{one.name}=={one.version}" for one in locked if one.kind == "pypi"]
    beside = tmp_path / "ordinary"
    (beside / ROOT).parent.mkdir(parents=True)
    ordinary(served, tmp_path).rename(beside / ROOT)
    environments.at_its_prefix(
        beside,
        f"{keys.PREFIX}/bin/pip install --quiet --isolated --no-deps --no-compile --no-cache-dir "
        f"--disable-pip-version-check --root-user-action=ignore --index-url {served.pypi} {' '.join(pinned)}",
    )

    expected, actual = environments.installed(beside / ROOT), environments.installed(root / ROOT)

    assert len(pinned) == 3, pinned
    scripts = {f"bin/{name}" for name in ("f2py", "numpy-config", "stoker-tiny", "stoker-tiny-old")}
    assert comparable(expected, scripts) == comparable(actual, scripts)
    for name in scripts:
        ordinarily = (beside / ROOT / name).read_text().replace("bin/python3.11\n", "bin/python\n")
        assert ordinarily.replace("'", '"') == (root / ROOT / name).read_text().replace("'", '"')
    assert scripts <= expected.keys() & actual.keys()
    for name in (name for name in actual if name.endswith(".dist-info/RECORD")):
        assert records(beside / ROOT / name) == records(root / ROOT / name), name


def comparable(files: Mapping[str, str], aside: Collection[str]) -> dict[str, str]:
    about_installs = ("/INSTALLER", "/REQUESTED", "/RECORD", ".pyc", "CACHEDIR.TAG", "share/post-link.txt")
    return {
        name: found
        for name, found in files.items()
        if not name.endswith(about_installs) and "conda-meta/" not in name and name not in aside
    }


def records(path: Path) -> list[str]:
    """The lines of a RECORD, but for bytecode and what pip writes about itself; scripts without their hashes."""
    about_installs = ("/INSTALLER", "/REQUESTED", ".pyc")
    lines = (line.partition(",") for line in path.read_text().splitlines())
    return sorted(
        name if name.startswith("../../../bin/") else f"{name},{rest}"
        for name, _, rest in lines
        if not name.endswith(about_installs)
    )


def test_the_environments_python_runs_with_conda_and_pip_packages(root: Path) -> None:
    code = (
        "import native_conda, numpy, stoker_tiny, sys, tiny_conda; "
        "print(sys.prefix, native_conda.NATIVE, tiny_conda.VERSION, stoker_tiny.VERSION, numpy.arange(3).sum())"
    )

    *said, listed = environments.at_its_prefix(
        root,
        f"{keys.PREFIX}/bin/python -I -c '{code}'",
        f"{keys.PREFIX}/bin/tiny-conda",
        f"{keys.PREFIX}/bin/stoker-tiny",
        f"{keys.PREFIX}/bin/native-conda",
        f"{keys.PREFIX}/bin/pip list --format json --disable-pip-version-check",
    )

    assert [f"{keys.PREFIX} 1 1.0 2.0 3", "1.0", "tiny 2.0", "native"] == said
    assert {"numpy", "stoker-tiny", "pip"} <= {one["name"] for one in json.loads(listed)}


def test_prefixes_are_the_images(root: Path) -> None:
    assert f"root={keys.PREFIX}/share\n" == (root / ROOT / "etc/native.conf").read_text()
    binary = (root / ROOT / "lib/native.bin").read_bytes()
    assert binary.startswith(b"\x7fELF" + f"{keys.PREFIX}/lib".encode() + b"\0")
    assert "native.bin" == os.readlink(root / ROOT / "lib/native.so")


def test_post_link_scripts_ran_and_saw_the_prefix(root: Path) -> None:
    assert f"linked into {keys.PREFIX}\n" == (root / ROOT / "share/post-link.txt").read_text()


def test_path_and_conda_prefix_name_the_environment(registry: RunningRegistry, mixed: Built) -> None:
    variables = environments.config_of(registry, mixed.result.image)["config"]["Env"]

    assert [
        f"PATH={keys.PREFIX}/bin:/usr/bin",
        f"CONDA_PREFIX={keys.PREFIX}",
        f"CONDA_DEFAULT_ENV={keys.PREFIX}",
    ] == variables


def test_nothing_of_the_machine_that_built_is_in_the_image(root: Path, served: packages.Packages) -> None:
    """Neither the scratch folder nor the mirror."""
    for path in (root / ROOT / "conda-meta").iterdir():
        text = path.read_text()
        assert served.url not in text
        assert "/build-" not in text


def test_one_conda_package_changed_sends_that_package_alone(
    registry: RunningRegistry, base: str, served: packages.Packages, mixed: Built, tmp_path: Path
) -> None:
    newer = {**MIXED, "dependencies": [text.replace("tiny-conda 1.*", "tiny-conda 2.*") for text in DEPENDENCIES]}
    wanted = request(registry, base, served, conda=newer, pip=PIP)

    built = build(wanted, tmp_path, STOKER_BUILDER_IMAGE="stoker@sha256:1")

    assert 0 == built.code, built.log
    assert 0 < built.result.uploaded_bytes < 40_000
    # The package with a post-link script is found under the key that has the builder in it.
    assert "1 made" in built.log


def test_another_builder_runs_post_link_scripts_anew(
    registry: RunningRegistry, base: str, served: packages.Packages, mixed: Built, tmp_path: Path
) -> None:
    wanted = request(registry, base, served, conda={"channels": ["lab"], "dependencies": ["post-link-conda"]})

    built = build(wanted, tmp_path, STOKER_BUILDER_IMAGE="stoker@sha256:2")

    assert 0 == built.code, built.log
    assert "1 made" in built.log


@pytest.mark.parametrize(
    ("channels", "dependencies", "reason", "where"),
    [
        (["lab"], ["needs-new", "needs-old"], "CondaUnsatisfiable", "conda.dependencies[0]: needs-new"),
        (["lab"], ["nonesuch"], "PackageNotFound", "conda.dependencies[0]: nonesuch"),
        (["lab"], ["tiny-conda 9"], "CondaUnsatisfiable", "conda.dependencies[0]: tiny-conda 9"),
    ],
)
def test_an_unsolvable_set_names_the_line_and_the_solvers_words(
    channels: list[str],
    dependencies: list[str],
    reason: str,
    where: str,
    registry: RunningRegistry,
    base: str,
    served: packages.Packages,
    tmp_path: Path,
) -> None:
    conda = {"channels": channels, "dependencies": dependencies}

    built = build(request(registry, base, served, conda=conda), tmp_path)

    assert (1, reason) == (built.code, built.result.reason)
    assert where in built.result.where
    assert dependencies[0].partition(" ")[0] in built.result.message


def test_a_channel_that_is_not_there_is_named(
    registry: RunningRegistry, base: str, served: packages.Packages, tmp_path: Path
) -> None:
    conda = {"channels": ["lab", f"{served.url}/conda/other"], "dependencies": ["python"]}

    built = build(request(registry, base, served, conda=conda), tmp_path)

    assert (1, "ChannelNotFound") == (built.code, built.result.reason)
    assert f"conda.channels[1]: {served.url}/conda/other" == built.result.where


def test_pip_goes_by_what_conda_puts_into_site_packages_whatever_its_package_is_called(
    registry: RunningRegistry, base: str, served: packages.Packages, tmp_path: Path
) -> None:
    """As with pytorch, which brings torch; no index has that version, and it stays all the same."""
    conda = {"channels": ["lab"], "dependencies": ["pip", "python 3.11.*", "renamed-conda"]}
    wanted = request(registry, base, served, conda=conda, pip={"requirements": ["stoker-needs-other"]})

    built = build(wanted, tmp_path)

    assert 0 == built.code, built.log
    locked = environments.lock_of(registry, built, wanted.spec_key).packages
    assert ["stoker-needs-other"] == [one.name for one in locked if one.kind == "pypi"]
    root = environments.unpack(registry, built.result.image, tmp_path / "root")
    said = environments.at_its_prefix(
        root,
        f"{keys.PREFIX}/bin/python -I -c 'import stoker_other; print(stoker_other.VERSION)'",
        f"{keys.PREFIX}/bin/pip check --disable-pip-version-check",
    )
    assert ["3.0", "No broken requirements found."] == said


def test_pip_packages_that_conda_has_brought_are_not_installed_twice(
    registry: RunningRegistry, base: str, served: packages.Packages, tmp_path: Path
) -> None:
    """And a pip requirement that conda's version breaks is an error, not a second copy."""
    conda = {"channels": ["lab"], "dependencies": ["python 3.11.*", "tiny-conda"]}
    wanted = request(registry, base, served, conda=conda, pip={"requirements": ["tiny-conda==1.0"]})

    built = build(wanted, tmp_path)

    assert 1 == built.code
    assert "tiny-conda" in built.result.message
