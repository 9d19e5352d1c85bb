"""What steps change in an image's config without BuildKit."""

from typing import Any

import pytest

from stoker.core.environment.stepwords import BadStep
from stoker.images.compose import ConfigChanges
from stoker.images.steps.native import Copy, read

CONFIG = {"config": {"Env": ["PATH=/usr/bin", "HOME=/root"], "WorkingDir": "/srv", "Cmd": ["python3"]}}


def changes(*steps: str, config: dict[str, Any] = CONFIG, platform: str = "linux/arm64") -> ConfigChanges:
    return read(steps, config, platform)[0]


def test_env_sees_the_bases_and_what_came_before() -> None:
    said = changes("ENV A=1", "ENV A=2 B=$A PATH=/opt/bin:$PATH", "ENV C=${A}")

    assert (("A", "2"), ("B", "1"), ("PATH", "/opt/bin:/usr/bin"), ("C", "2")) == said.env


def test_arg_is_known_to_later_steps_and_not_to_the_image() -> None:
    said = changes("ARG V=7", "LABEL version=$V arch=$TARGETARCH", "ARG TARGETARCH", "LABEL arch2=$TARGETARCH")

    assert (("version", "7"), ("arch", ""), ("arch2", "arm64")) == said.labels
    assert () == said.env


def test_env_wins_over_arg() -> None:
    assert (("A", "env"), ("B", "env")) == changes("ENV A=env", "ARG A=arg", "ENV B=$A").env


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (("WORKDIR /a",), "/a"),
        (("WORKDIR b",), "/srv/b"),
        (("WORKDIR /a", "WORKDIR b", "WORKDIR ../c"), "/a/c"),
        (("ENV D=/x/y", "WORKDIR $D"), "/x/y"),
        (("WORKDIR //x",), "/x"),
    ],
)
def test_workdir_goes_on_from_the_one_before(steps: tuple[str, ...], expected: str) -> None:
    assert expected == changes(*steps).working_dir


def test_commands_in_both_forms() -> None:
    said = changes('SHELL ["/bin/bash", "-lc"]', "ENTRYPOINT run $HOME", 'CMD ["a", "$B"]')

    assert ("/bin/bash", "-lc", "run $HOME") == said.entrypoint
    assert ("a", "$B") == said.cmd
    assert ("/bin/bash", "-lc") == said.shell


def test_an_entrypoint_ends_the_bases_command() -> None:
    assert () == changes('ENTRYPOINT ["x"]').cmd
    assert ("y",) == changes('CMD ["y"]', 'ENTRYPOINT ["x"]').cmd
    assert None is changes("ENV A=1").cmd


def test_ports_volumes_user_and_signal() -> None:
    said = changes("EXPOSE 80 9000-9001/udp", 'VOLUME ["/d", "/e"]', "USER 1000:1000", "STOPSIGNAL SIGINT")

    assert ("80/tcp", "9000/udp", "9001/udp") == said.exposed_ports
    assert ("/d", "/e") == said.volumes
    assert "1000:1000" == said.user
    assert "SIGINT" == said.stop_signal


def test_history_tells_the_steps() -> None:
    assert ("ENV A=1", "USER 5") == changes("ENV A=1", "ARG B=2", "USER 5").history


def test_copy_is_relative_to_the_working_folder() -> None:
    _, copies = read(["WORKDIR /app", "COPY --chown=7 --chmod=0640 a b x/", "COPY c ."], CONFIG, "linux/amd64")

    assert (
        Copy(("a", "b"), "/app/x", True, "COPY --chown=7 --chmod=0640 a b x/", (7, 7), 0o640, "/app"),
        Copy(("c",), "/app", True, "COPY c .", working_dir="/app"),
    ) == copies


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("EXPOSE http", "'http' is not a port"),
        ("EXPOSE 70000", "is not a port"),
        ("USER a b", "one user"),
        ("COPY a", "a source and a target"),
        ("COPY a b /c", "end it with a slash"),
        ("SHELL /bin/sh", "written as a list"),
        ("ENV A='x", "never closed"),
    ],
)
def test_a_bad_step_is_named(step: str, expected: str) -> None:
    with pytest.raises(BadStep) as raised:
        changes("ENV OK=1", step)

    assert str(raised.value).startswith(f"step 2 ({step})")
    assert expected in str(raised.value)
