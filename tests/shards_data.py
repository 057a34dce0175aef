"""Shards for tests: tar files of given members, and loose files moved into them."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path


def write_shard(file: Path, members: Mapping[str, bytes], mode: str = "w") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, mode) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file


def move_into_shard(shard: Path, files: Iterable[Path]) -> Path:
    files = sorted(files)
    write_shard(shard, {file.name: file.read_bytes() for file in files})
    for file in files:
        file.unlink()
    return shard
