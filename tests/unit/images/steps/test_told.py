"""What is told of a solve: the log's lines, and why it failed."""

import base64
import json

import pytest

from stoker.images.steps import told
from stoker.images.steps.buildkit import dockerfile, secret_ids

STEPS = ("ENV A=1", "RUN make", "RUN <<EOF\nmake test\nEOF", "COPY x /x")
BASE = "registry.example.com/base@sha256:" + "0" * 64


def test_the_dockerfile_is_the_base_and_the_steps() -> None:
    text, lines = dockerfile(BASE, STEPS)

    assert f"FROM {BASE}\nENV A=1\nRUN make\nRUN <<EOF\nmake test\nEOF\nCOPY x /x\n" == text
    assert (2, 3, 4, 7) == lines


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("RUN --mount=type=secret,id=token cat /run/secrets/token", ("token",)),
        ("RUN --mount=type=secret,target=/root/.netrc x", (".netrc",)),
        ("RUN --mount=type=secret,id=a --mount=type=cache,target=/c --mount=type=secret,id=b,env=B x", ("a", "b")),
        ("RUN --mount=type=cache,id=c,target=/c x", ()),
        ("RUN echo", ()),
    ],
)
def test_secrets_are_found_by_id(step: str, expected: tuple[str, ...]) -> None:
    assert expected == secret_ids([step])


def failed(line: int, error: str, tail: str = "") -> tuple[str, str, str, bool]:
    _, lines = dockerfile(BASE, STEPS)
    words = (f"Dockerfile:{line}\n-----\n" if line else "") + f"error: failed to solve: {error}"
    why = told.failure(words, tail, STEPS, lines, "registry.example.com")
    return why.reason, why.where, why.message, why.transient


@pytest.mark.parametrize(
    ("line", "error", "expected"),
    [
        (
            3,
            'process "/bin/sh -c make" did not complete successfully: exit code: 2',
            ("DockerStepFailed", "dockerSteps[1]"),
        ),
        (5, 'process "x" did not complete successfully: exit code: 1', ("DockerStepFailed", "dockerSteps[2]")),
        (3, 'process "x" did not complete successfully: exit code: 137', ("OutOfMemory", "dockerSteps[1]")),
        (7, 'failed to compute cache key: "/x": not found', ("DockerStepFailed", "dockerSteps[3]")),
        (1, "registry.example.com/base: not found", ("BaseImageNotFound", "image")),
        (1, "base: no match for platform in manifest: not found", ("ArchitectureMismatch", "image")),
        (1, "unexpected status: 401 Unauthorized", ("BaseImageUnauthorized", "image")),
        (
            1,
            "pull access denied, repository does not exist or may require authorization",
            ("BaseImageUnauthorized", "image"),
        ),
        (1, "dial tcp: connect: connection refused", ("RegistryUnreachable", "")),
        (0, "failed to push x: unexpected status: 403 Forbidden", ("PushDenied", "")),
        (0, "failed to push x: dial tcp: connection refused", ("RegistryUnreachable", "")),
        (0, "write /x: no space left on device", ("DiskFull", "")),
        (0, "listing workers for Build: failed to list workers: Unavailable: x", ("NoBuilderAvailable", "")),
    ],
)
def test_each_failure_has_its_reason(line: int, error: str, expected: tuple[str, str]) -> None:
    reason, where, _, _ = failed(line, error)

    assert expected == (reason, where)


def test_a_failed_step_says_which_and_how_it_ended() -> None:
    error = 'process "/bin/sh -c make" did not complete successfully: exit code: 2'
    _, _, message, transient = failed(3, error, "cc -c a.c\na.c:1: no\n")

    assert "step 2 of 4 (RUN make) ended with exit code 2:\ncc -c a.c\na.c:1: no" == message
    assert not transient


@pytest.mark.parametrize(
    ("line", "error", "expected"),
    [
        (0, "exit code: 2", False),
        (0, "failed to push x: 503", True),
        (0, "write /x: no space left on device", True),
        (3, 'process "x" did not complete successfully: exit code: 137', True),
    ],
)
def test_only_what_time_mends_is_transient(line: int, error: str, expected: bool) -> None:
    assert expected == failed(line, error)[3]


def vertex(**members: object) -> str:
    return json.dumps({"vertexes": [{"digest": "sha256:1", "name": "[2/3] RUN make", **members}]})


def output(text: str) -> str:
    return json.dumps({"logs": [{"vertex": "sha256:1", "data": base64.b64encode(text.encode()).decode()}]})


def test_progress_reads_as_lines() -> None:
    progress = told.Progress()
    start, end = "2026-01-01T00:00:00Z", "2026-01-01T00:00:02.5Z"
    lines = [
        vertex(),
        vertex(started=start),
        output("one\ntw"),
        output("o\nthree"),
        vertex(started=start, completed=end),
        json.dumps({"vertexes": [{"digest": "sha256:2", "name": "[internal] load", "started": start}]}),
        "error: something",
    ]

    assert [
        ("[2/3] RUN make", None),
        ("  one", None),
        ("  two", None),
        ("  three", None),
        ("[2/3] done", 2.5),
    ] == [fact for line in lines for fact in progress.read(line)]
    assert ["error: something"] == progress.words
    assert "one\ntwo\nthree" == progress.tail


def test_what_was_built_before_is_said() -> None:
    progress = told.Progress()

    assert [("[2/3] RUN make", None), ("[2/3] as built before", 0.0)] == progress.read(
        vertex(started="2026-01-01T00:00:00Z", completed="2026-01-01T00:00:00Z", cached=True)
    )
