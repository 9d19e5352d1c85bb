"""Which docker steps need BuildKit, and how their words are read."""

import pytest

from stoker.core.environment.stepplace import first_that_needs, needs_buildkit
from stoker.core.environment.stepwords import BadStep, expand, json_words, pairs


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("ENV A=1 B=2", False),
        ("LABEL a=b", False),
        ("ARG TARGETARCH", False),
        ("WORKDIR /app", False),
        ("USER 1000", False),
        ("EXPOSE 80", False),
        ("ENTRYPOINT run", False),
        ('CMD ["a"]', False),
        ("STOPSIGNAL SIGINT", False),
        ('SHELL ["/bin/bash", "-c"]', False),
        ("VOLUME /data", False),
        ("COPY a.txt /a.txt", False),
        ("COPY --link --chown=1000:1000 --chmod=0755 a /b/", False),
        ("RUN true", True),
        ("ADD a.tar /", True),
        ("ADD https://example.com/a /a", True),
        ("COPY --from=base@sha256:00 /a /b", True),
        ("COPY --chown=app a /b", True),
        ("COPY --chmod=u+x a /b", True),
        ("COPY --exclude=*.md . /b", True),
        ("COPY <<EOF /a\nhello\nEOF", True),
        ("ENV A=${B#prefix}", True),
        ("ENV A=${B:-x}", False),
        ("HEALTHCHECK NONE", True),
    ],
)
def test_what_runs_nothing_needs_no_buildkit(step: str, expected: bool) -> None:
    assert expected == needs_buildkit([step])


def test_one_step_that_needs_it_is_enough() -> None:
    steps = ["ENV A=1", "RUN make", "RUN test"]

    assert needs_buildkit(steps)
    assert "RUN make" == first_that_needs(steps)


def test_no_steps_need_nothing() -> None:
    assert not needs_buildkit([])
    assert "" == first_that_needs(["ENV A=1"])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("$A", "one"),
        ("${A}b", "oneb"),
        ("$Ab", ""),
        ("'$A'", "$A"),
        ('"$A b"', "one b"),
        (r"\$A", "$A"),
        (r'"\$A\x"', r"$A\x"),
        ("${NONE:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY-other}", ""),
        ("${NONE-${A}}", "one"),
        ("${A:+set}", "set"),
        ("${NONE:+set}", ""),
        ("a$", "a$"),
        ("$1", "$1"),
        ("x\\", "x\\"),
    ],
)
def test_variables_and_quotes_are_a_dockerfiles(word: str, expected: str) -> None:
    assert expected == expand(word, {"A": "one", "EMPTY": ""})


@pytest.mark.parametrize("word", ["'open", '"open', "${A", "${}", "${A?why}"])
def test_what_never_closes_is_refused(word: str) -> None:
    with pytest.raises(BadStep):
        expand(word, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1 B=2", [("A", "1"), ("B", "2")]),
        ("A=\"x y\" B='z w'", [("A", '"x y"'), ("B", "'z w'")]),
        (r"A=x\ y", [("A", r"x\ y")]),
        ("A some old text", [("A", "some old text")]),
    ],
)
def test_both_forms_of_env(text: str, expected: list[tuple[str, str]]) -> None:
    assert expected == list(pairs(text))


@pytest.mark.parametrize("text", ["A=1 B", "A", "=1"])
def test_a_name_without_a_value_is_refused(text: str) -> None:
    with pytest.raises(BadStep):
        list(pairs(text))


@pytest.mark.parametrize(
    ("text", "expected"), [('["a", "b c"]', ("a", "b c")), ("[1]", None), ("[a", None), ("a b", None), ("[]", ())]
)
def test_a_list_is_a_list_of_texts(text: str, expected: tuple[str, ...] | None) -> None:
    assert expected == json_words(text)
