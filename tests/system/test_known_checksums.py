"""Checksums are those of hashlib, and a file is read again only when it may be another."""

import hashlib
import os
from pathlib import Path

import pytest

from nnunet_diffusion_ensemble.system.known_checksums import KnownChecksums


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in ("a", "b")]
    for file in made:
        file.write_text(file.name)
    return made


def read(known: KnownChecksums, files: list[Path]) -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    known.read(files, 2, lambda *at: told.append(at))
    return told


def test_checksums_are_those_of_hashlib(files: list[Path]) -> None:
    known = KnownChecksums()
    assert read(known, files) == [(1, 2), (2, 2)]
    assert [known.of(file) for file in files] == [hashlib.sha256(text).hexdigest() for text in (b"a", b"b")]


def test_what_is_known_is_not_read_again(files: list[Path]) -> None:
    known = KnownChecksums()
    read(known, files)
    state = files[0].stat()
    files[0].write_text("c")
    os.utime(files[0], ns=(state.st_atime_ns, state.st_mtime_ns))  # nothing tells that it is another
    assert read(known, files) == []
    assert known.of(files[0]) == hashlib.sha256(b"a").hexdigest()


def test_a_file_that_may_be_another_is_read_again_and_one_that_is_not_asked_for_is_forgotten(files: list[Path]) -> None:
    known = KnownChecksums()
    read(known, files)
    files[0].write_text("longer")
    assert read(known, files[:1]) == [(1, 1)]
    assert known.of(files[0]) == hashlib.sha256(b"longer").hexdigest()
    assert list(known.entries) == [str(files[0])]
