"""Bytecode: the same bytes whatever was compiled before, and nothing is left running."""

import asyncio
import marshal
import os
import select
import zipfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from stoker.images import compiling
from stoker.images.archive import Archive
from stoker.images.compiling import Compiler, Source
from stoker.images.failure import BuildFailed
from stoker.images.layers import File

SITE = "/opt/env/lib/python3.11/site-packages"
#: Names and texts that modules share: what `marshal` writes of them depends on what else is alive.
MODULE = "import os\n\n\ndef shared_name_{number}(argument_of_all, other_argument):\n    '''text of all'''\n    return ('text of all', 12345, argument_of_all.attribute_of_all)\n"


def wheel(path: Path, name: str, count: int) -> list[tuple[Source, str]]:
    """A zip of modules; returns what to compile."""
    members = [f"{name}/module_{number}.py" for number in range(count)]
    with zipfile.ZipFile(path, "w") as archive:
        for number, member in enumerate(members):
            method = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
            archive.writestr(member, MODULE.format(number=number), method)
    with Archive(path) as opened:
        places = {member: opened.place(member) for member in members}
    return [(place, f"{SITE}/{member}") for member, place in places.items() if place is not None]


def contents(compiled: Mapping[str, File]) -> dict[str, bytes]:
    found = {}
    for path, file in compiled.items():
        assert not isinstance(file.content, bytes)
        found[path] = b"".join(file.content())
    return found


def compiled_by(scratch: Path, work: Callable[[Compiler], Awaitable[Mapping[str, File]]]) -> dict[str, bytes]:
    async def run() -> dict[str, bytes]:
        compiler = Compiler(scratch)
        try:
            return contents(await work(compiler))
        finally:
            await compiler.close()

    scratch.mkdir()
    return asyncio.run(run())


def test_bytecode_does_not_depend_on_what_was_compiled_before(tmp_path: Path) -> None:
    first, second = tmp_path / "first.whl", tmp_path / "second.whl"
    of_first = wheel(first, "first", compiling.GROUP + 20)
    of_second = wheel(second, "second", 2 * compiling.GROUP + 1)

    async def after_others(compiler: Compiler) -> Mapping[str, File]:
        for _ in range(3):
            await asyncio.gather(compiler.compile(first, of_first), compiler.compile(second, of_second[:7]))
        return await compiler.compile(second, of_second)

    alone = compiled_by(tmp_path / "alone", lambda compiler: compiler.compile(second, of_second))
    later = compiled_by(tmp_path / "later", after_others)

    assert {path for _, path in of_second} == alone.keys()
    assert alone == later
    code = marshal.loads(alone[f"{SITE}/second/module_5.py"][16:])
    assert f"{SITE}/second/module_5.py" == code.co_filename


def test_a_packages_own_tests_and_what_does_not_compile_are_left_as_sources(tmp_path: Path) -> None:
    modules = ["a/__init__.py", "a/tests/test_a.py", "a/b/test/c.py", "tests/d.py", "a/latest.py", "a/testing/e.py"]
    sources = {**dict.fromkeys(modules, "x = 1\n"), "a/python2.py": "print 'x'\n"}
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    wanted = [(str(tmp_path / name), f"{SITE}/{name}") for name in sources]

    found = compiled_by(tmp_path / "scratch", lambda compiler: compiler.compile(None, wanted))

    assert [f"{SITE}/a/__init__.py", f"{SITE}/a/latest.py", f"{SITE}/a/testing/e.py"] == sorted(found)


def test_a_compiler_that_dies_fails_the_build_and_another_try_may_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dying.py").write_text("import sys\nsys.stdin.readline()\nsys.exit(3)\n")
    monkeypatch.setattr(compiling.bytecode, "__file__", str(tmp_path / "dying.py"))

    with pytest.raises(BuildFailed, match="ended with 3") as failed:
        compiled_by(tmp_path / "scratch", lambda compiler: compiler.compile(None, [("a.py", f"{SITE}/a.py")]))

    assert ("Internal", True) == (failed.value.reason, failed.value.transient)


def test_a_full_disk_is_called_by_its_name(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text("x = 1\n")

    async def onto_a_full_disk(compiler: Compiler) -> Mapping[str, File]:
        (tmp_path / "scratch" / "bytecode-1").symlink_to("/dev/full")
        return await compiler.compile(None, [(str(source), f"{SITE}/a.py")])

    with pytest.raises(BuildFailed) as failed:
        compiled_by(tmp_path / "scratch", onto_a_full_disk)

    assert ("DiskFull", True) == (failed.value.reason, failed.value.transient)


def test_closing_ends_compilers_in_the_midst_of_their_work(tmp_path: Path) -> None:
    fifo = tmp_path / "never.py"
    os.mkfifo(fifo)

    async def run() -> int:
        compiler = Compiler(tmp_path)
        work = asyncio.create_task(compiler.compile(None, [(str(fifo), f"{SITE}/never.py")]))
        # Opened for writing once the compiler reads it: it is in the midst of its work.
        writer = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await compiler.close()
        return writer

    writer = asyncio.run(run())
    reader = select.poll()
    reader.register(writer, 0)
    ended = reader.poll(10_000)
    os.close(writer)

    assert [(writer, select.POLLERR)] == ended
