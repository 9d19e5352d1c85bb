"""Keys are named by content: golden vectors, and what changes a key and what does not."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stoker.api.environment import EnvironmentSpec
from stoker.core.environment import definition, keys
from stoker.core.environment.definition import Definition
from stoker.runtime.wire import Entry

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors.json").read_text())
BASE = "docker.io/library/python@sha256:" + "1" * 64
CONTEXT = [
    Entry("docker/a", 1, "a" * 64),
    Entry("docker/b/c", 2, "b" * 64, executable=True),
    Entry("train.py", 3, "c" * 64),
]

#: Every letter that could end one member and begin the next, in one place or another.
TEXTS = st.text("ab\\\"'\n\r\t ,:;|&[]{}\0/é", max_size=4)
DEFINITIONS = st.builds(
    Definition,
    image=TEXTS,
    steps=st.lists(TEXTS, max_size=3).map(tuple),
    context_digest=st.none() | TEXTS,
    conda=st.none()
    | st.fixed_dictionaries({"channels": st.lists(TEXTS, max_size=2), "dependencies": st.lists(TEXTS, max_size=2)}),
    pip=st.none() | st.fixed_dictionaries({"requirements": st.lists(TEXTS, max_size=3)}),
    cache_epoch=st.integers(0, 2),
)


def read(spec: dict[str, Any], entries: list[Entry] | None = None) -> Definition:
    return definition.read(msgspec.convert(spec, EnvironmentSpec), {}, entries)


def key(**spec: Any) -> str:
    return keys.definition_key(read({"image": "python:3.12-slim", **spec}, CONTEXT))


@pytest.mark.parametrize("name", VECTORS)
def test_a_golden_vector_has_its_keys(name: str) -> None:
    vector = VECTORS[name]
    entries = [Entry(*entry) for entry in vector["entries"]] if "entries" in vector else None
    found = read(vector["spec"], entries)
    steps = keys.steps_key(found.steps, found.context_digest, vector["base"], vector["platform"])
    packages = [tuple(package) for package in reversed(vector["packages"])]

    assert vector["definitionKey"] == keys.definition_key(found)
    assert vector["definitionKey"] == hashlib.sha256(vector["hashed"].encode()).hexdigest()
    assert vector["specKey"] == keys.spec_key(found, vector["base"], vector["platform"])
    assert vector["stepsKey"] == steps
    assert vector["lockKey"] == keys.lock_key(steps, vector["platform"], keys.PREFIX, vector["layerFormat"], packages)
    assert vector["short"] == keys.short(vector["specKey"])


@given(DEFINITIONS, DEFINITIONS)
def test_two_contents_have_two_names(one: Definition, other: Definition) -> None:
    """No text can end one member and begin the next."""
    assert (one.canonical() == other.canonical()) == (keys.definition_key(one) == keys.definition_key(other))


@given(DEFINITIONS)
def test_every_member_is_in_the_spec_key_and_the_platform_too(one: Definition) -> None:
    changed = [
        msgspec.structs.replace(one, steps=(*one.steps, "RUN x")),
        msgspec.structs.replace(one, context_digest=f"{one.context_digest}x"),
        msgspec.structs.replace(one, conda={"channels": ["x"], "dependencies": ["x"]}),
        msgspec.structs.replace(one, pip={"requirements": ["x"]}),
        msgspec.structs.replace(one, cache_epoch=3),
    ]
    names = {keys.spec_key(each, BASE, "linux/amd64") for each in (one, *changed)}
    names |= {keys.spec_key(one, BASE, "linux/arm64"), keys.spec_key(one, BASE + "0", "linux/amd64")}

    assert 8 == len(names)


def test_the_base_as_written_is_not_in_the_spec_key() -> None:
    """A tag that another tag equals names the same image: only the digest counts."""
    one, other = read({"image": "python:3.12"}), read({"image": "python:latest"})

    assert keys.spec_key(one, BASE, "linux/amd64") == keys.spec_key(other, BASE, "linux/amd64")
    assert keys.definition_key(one) != keys.definition_key(other)


PINS = st.sampled_from(
    ["numpy>=1.21,<2", "torch==2.1", "pandas[parquet,excel]>=2; python_version>='3.9'", "Scikit_Learn ~= 1.3"]
)
SPECS = st.sampled_from(
    ["python=3.11", "numpy >=1.21,<2", "mkl=2021.4=h0_1", "nvidia::cuda-toolkit", "lightgbm==3.3.*"]
)


@given(
    st.lists(PINS, min_size=1, unique=True), st.lists(SPECS, min_size=1, unique=True), st.randoms(use_true_random=False)
)
def test_order_blanks_comments_and_line_ends_change_nothing(
    pip: list[str], conda: list[str], chance: random.Random
) -> None:
    plain = {"channels": ["conda-forge", "nvidia"], "dependencies": [*conda, {"pip": pip}]}
    dependencies = [_loosely(one, chance) for one in chance.sample(conda, len(conda))]
    mapping = {
        "name": "any", "prefix": "/home/me/env",
        "dependencies": [*dependencies, {"pip": [_loosely(one, chance) + "  # why" for one in chance.sample(pip, len(pip))]}],
        "channels": ["https://conda.anaconda.org/conda-forge/", "nvidia"],
    }  # fmt: skip
    text = "# ours\n\n" + yaml.safe_dump(mapping, sort_keys=chance.random() < 0.5) + "\n# the end"

    assert key(conda=plain) == key(conda=mapping)
    assert key(conda=plain) == key(conda=text)
    assert key(conda=plain) == key(conda=text.replace("\n", "\r\n"))
    assert key(conda={**plain, "dependencies": conda}, pip=pip) == key(conda=plain)


def _loosely(text: str, chance: random.Random) -> str:
    """The same dependency as somebody else would write it."""
    name, comma, rest = text.partition(",")
    if comma and ">" in name and "[" not in name:
        first = name.split(">", 1)
        text = f"{first[0].strip()} {rest},>{first[1]}"
    return text.replace(";", " ;") if chance.random() < 0.5 else f"{text} "


STEPS = [
    "RUN apt-get update && apt-get install -y x",
    "ENV A=1 B='x  y'",
    "COPY a b/c /opt/",
    "RUN <<EOF\n  one # two\n\n\ttwo\nEOF",
]


@given(st.permutations(STEPS), st.randoms(use_true_random=False))
def test_steps_keep_their_order_and_lose_what_means_nothing(steps: list[str], chance: random.Random) -> None:
    loose = []
    for step in steps:
        keyword, _, rest = step.partition(" ")
        loose.append(
            f"# why\n\n  {chance.choice([keyword, keyword.lower()])}   {rest}" + ("" if "EOF" in rest else "  \n")
        )
    joined = "\r\n".join("\r\n".join(step.split("\n")) for step in loose)

    assert key(dockerSteps=steps, context="docker") == key(dockerSteps=loose, context="docker")
    assert key(dockerSteps=steps, context="docker") == key(dockerSteps=[joined], context="./docker/")
    assert (steps == STEPS) == (key(dockerSteps=steps, context="docker") == key(dockerSteps=STEPS, context="docker"))


def test_a_continued_line_is_one_line_and_its_comments_are_none() -> None:
    continued = ["RUN apt-get update && \\\n# first\n\n  apt-get install -y \\   \n  x"]

    assert key(dockerSteps=["RUN apt-get update &&   apt-get install -y   x"]) == key(dockerSteps=continued)


@pytest.mark.parametrize(
    "other",
    [
        {"image": "python:3.13-slim"},
        {"pip": ["numpy==1.26", "torch"]},
        {"pip": ["numpy==1.26.1"]},
        {"pip": ["numpy==1.26 --hash=sha256:" + "0" * 64]},
        {"pip": ["numpy==1.26", "--extra-index-url https://x.example.com/simple"]},
        {"pip": ["numpy==1.26 ; python_version < '3.12'"]},
        {"pip": ["numpy[x]==1.26"]},
        {"pip": ["num-py==1.26"]},
        {"pip": ["numpy==1.26", "--pre"]},
        {"conda": {"dependencies": ["numpy==1.26"]}, "pip": []},
        {"dockerSteps": ["RUN true"]},
        {"dockerSteps": ["RUN true  && true"]},
        {"dockerSteps": ["RUN <<E\ntrue\nE"]},
        {"dockerSteps": ["RUN <<E\n true\nE"]},
        {"dockerSteps": ["RUN <<'E'\ntrue\nE"]},
        {"dockerSteps": ["COPY a /"], "context": "docker"},
        {"cacheEpoch": 1},
    ],
)
def test_any_content_makes_another_key(other: dict[str, Any]) -> None:
    everything = {
        key(pip=["numpy==1.26"]), key(pip=["numpy==1.26"], dockerSteps=["RUN true && true"]), key(pip=["numpy==1.26"], dockerSteps=["RUN <<E\nfalse\nE"]),
    }  # fmt: skip

    assert key(**{"pip": ["numpy==1.26"], **other}) not in everything


@pytest.mark.parametrize(
    "same",
    [
        {"image": "docker.io/library/python:3.12-slim"},
        {"pip": ["NumPy == 1.26"]},
        {"pip": ["# ours\nnumpy==1.26  # pinned\n"]},
        {"pip": ["numpy==1.26", "numpy==1.26"]},
        {"pip": [], "conda": {"dependencies": [{"pip": ["numpy==1.26"]}]}},
        {"pip": [], "conda": "channels: [defaults]\ndependencies:\n  - pip:\n    - numpy==1.26"},
        {
            "platforms": ["linux/arm64"],
            "refresh": "monday",
            "basePolicy": "Always",
            "imagePullSecrets": [{"name": "x"}],
        },
        {"build": {"bytecode": False}},
    ],
)
def test_what_is_no_content_makes_no_other_key(same: dict[str, Any]) -> None:
    assert key(pip=["numpy==1.26"]) == key(**{"pip": ["numpy==1.26"], **same})


@pytest.mark.parametrize(
    ("entries", "changes"),
    [
        (list(reversed(CONTEXT)), False),
        ([*CONTEXT[:2], Entry("train.py", 9, "d" * 64)], False),
        ([*CONTEXT, Entry("docker/new", 0, "e" * 64)], True),
        ([CONTEXT[0]._replace(sha256="d" * 64), *CONTEXT[1:]], True),
        ([CONTEXT[0]._replace(executable=True), *CONTEXT[1:]], True),
        ([CONTEXT[0]._replace(target="b"), *CONTEXT[1:]], True),
        ([CONTEXT[0], CONTEXT[1]._replace(path="docker/b/d"), CONTEXT[2]], True),
    ],
)
def test_the_context_counts_by_what_is_in_it(entries: list[Entry], changes: bool) -> None:
    spec = {"image": "a:1", "dockerSteps": ["COPY . /opt"], "context": "docker"}

    assert changes == (keys.definition_key(read(spec, CONTEXT)) != keys.definition_key(read(spec, entries)))


def test_a_context_that_no_step_reads_does_not_count() -> None:
    assert key(dockerSteps=["RUN true"]) == key(dockerSteps=["RUN true"], context="docker")
    assert read(
        {"image": "a:1", "dockerSteps": ["RUN --mount=target=/src make"], "context": "docker"}, CONTEXT
    ).context_digest


def test_one_text_in_two_unicode_forms_is_one_content() -> None:
    assert key(dockerSteps=["LABEL who=Zo\u00eb"]) == key(dockerSteps=["LABEL who=Zoe\u0308"])


def test_files_and_texts_in_place_are_the_same_content() -> None:
    conda = "dependencies: [python=3.11, {pip: [-r more.txt]}]"
    files = {
        "envs/conda.yaml": conda,
        "envs/more.txt": "-c bounds.txt\ntorch",
        "envs/bounds.txt": "numpy<2",
        "Dockerfile": "ARG V=3.12\nFROM python:$V-slim AS base\nRUN true\n",
    }
    spec = msgspec.convert({"condaFile": "./envs/conda.yaml", "build": {"dockerfile": "Dockerfile"}}, EnvironmentSpec)
    wanted: list[tuple[str, ...]] = []
    at_hand: dict[str, str | None] = {}
    while more := definition.files_wanted(spec, at_hand):
        wanted.append(more)
        at_hand |= {path: files[path] for path in more}
    in_place = read(
        {
            "image": "python:3.12-slim",
            "dockerSteps": ["RUN true"],
            "conda": {"dependencies": ["python=3.11"]},
            "pip": ["torch"],
        }
    )

    assert [("Dockerfile", "envs/conda.yaml"), ("envs/more.txt",), ("envs/bounds.txt",)] == wanted
    found = definition.read(spec, at_hand)
    assert {**in_place.canonical(), "pip": {"requirements": ["torch"], "constraints": ["numpy<2"]}} == found.canonical()


@given(
    st.lists(
        st.sampled_from(
            [*STEPS, "WORKDIR /a  b", "RUN --mount=type=cache,target=/x y", 'CMD ["a", "b"]', "ENV k some value"]
        ),
        min_size=1,
    )
)
def test_canonical_steps_read_as_themselves(steps: list[str]) -> None:
    """What a build is told is what the key was made from."""
    once = read({"image": "a:1", "dockerSteps": steps, "context": "docker"}, CONTEXT)
    twice = read({"image": "a:1", "dockerSteps": list(once.steps), "context": "docker"}, CONTEXT)

    assert once == twice


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("python=3.11.*", "python 3.11.*"),
        ("pip=24.0", "pip 24.0.*"),
        ("pip 24.0", "pip ==24.0"),
        ("mkl=2021.4=h0_1", "mkl ==2021.4 h0_1"),
        ("NumPy >=1.21, <2", "numpy <2,>=1.21"),
        ("numpy (>=1|<3),!=2", "numpy !=2,(<3|>=1)"),
        ("numpy>=11,<12|13", "numpy <12,>=11|==13"),
        ("https://host.example.com/a/b/::numpy", 'numpy[channel="https://host.example.com/a/b"]'),
        ("https://conda.anaconda.org/nvidia/::numpy", "nvidia::numpy"),
        ("conda-forge/linux-64::numpy=1.2", 'numpy[channel="conda-forge",subdir="linux-64",version="1.2.*"]'),
        ("pkg[build_number='>=1']", 'pkg[build_number=">=1"]'),
        ("pytorch=*=*cuda*", "pytorch * *cuda*"),
        ("numpy=1.2.*=py*|foo", 'numpy[build="py*|foo",version="1.2.*"]'),
        (f"numpy[sha256={'a' * 64}]", f'numpy[sha256="{"a" * 64}"]'),
        (f"numpy[md5={'1' * 32}]", f'numpy[md5="{"1" * 32}"]'),
        ("https://x.example.com/a/numpy-1.0-py_0.conda", 'numpy[url="https://x.example.com/a/numpy-1.0-py_0.conda"]'),
        ("numpy[fn='a,b.conda',build=c]", 'numpy[build="c",fn="a,b.conda"]'),
    ],
)
def test_a_conda_spec_has_one_form_that_reads_as_itself(written: str, canonical: str) -> None:
    channels = ["conda-forge", "https://host.example.com/a/b", "nvidia"]
    once, twice = (
        read({"image": "a:1", "conda": {"channels": channels, "dependencies": [spec]}}).conda
        for spec in (written, canonical)
    )

    assert {"channels": channels, "dependencies": [canonical]} == once == twice


def test_a_name_is_short_enough_for_a_label_and_says_its_bits() -> None:
    assert "aaaqeayeaudaocajbifqydiob4ibceqt" == keys.short(bytes(range(32)).hex())
