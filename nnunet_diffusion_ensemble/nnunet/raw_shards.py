"""Shards of unlabelled images: plain tar files in `imagesUn`, whose members are named as loose files are.

An image in a shard is written as a path below it, `imagesUn/xrays.tar/CASE_0000.png`: so the images of a case are a
list of paths wherever they lie. `images.members.as_files` gives the files that a reader opens.
"""

import tarfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from nnunet_diffusion_ensemble.system.records import stamp

SHARD_ENDING = ".tar"
COMPRESSED_ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
COMPRESSED_STARTS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # of gzip, bzip2, xz and zstd
COMPRESSED = "is compressed; a shard is a plain tar file, whose members are read in place: uncompress it (gunzip)"
CUT_OFF = "is cut off or damaged: it does not end as a tar file does"
SIDE_BY_SIDE = "members lie side by side: tar -C FOLDER -cf NAME.tar ."


class Extent(NamedTuple):
    """Where a member lies in its shard, in bytes."""

    offset: int
    size: int


class ShardError(ValueError):
    """A shard that cannot be used.

    Attributes:
        problems: all that is wrong with it, each with the name of the shard.
    """

    def __init__(self, shard: Path, problems: Iterable[str]):
        self.shard, self.problems = shard, tuple(problems)
        super().__init__("\n  ".join([f"{shard} cannot be used:", *self.problems]))

    def __reduce__(self) -> tuple:
        return ShardError, (self.shard, self.problems)


def is_member(image: Path) -> bool:
    """Whether an image lies in a shard."""
    return image.parent.name.endswith(SHARD_ENDING)


def name_in_folder(image: Path) -> str:
    """An image's name below `imagesUn`: the shard's too, if it lies in one."""
    return f"{image.parent.name}/{image.name}" if is_member(image) else image.name


def read_shard(shard: Path) -> dict[str, Extent]:
    """The members of a shard by name, in their order; reads headers only. Hidden members are skipped.

    Raises:
        ShardError: it is compressed, cut off or no tar file; or a member is a folder, a link, in a folder or there
            twice.
    """
    problems: list[str] = []
    members: dict[str, Extent] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in _visible(tar):
                name = member.name.removeprefix("./")
                if problem := _member_problem(member, name, members):
                    problems.append(f"{shard.name}: {name} {problem}")
                members[name] = Extent(member.offset_data, member.size)
            end = tar.offset
    except tarfile.TarError as error:
        raise ShardError(shard, [f"{shard.name} {_why_unreadable(shard, error)}"]) from error
    if not _ends_at(shard, end):
        problems.append(f"{shard.name} {CUT_OFF}")
    if problems:
        raise ShardError(shard, problems)
    return members


def _visible(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Members, without hidden ones and the folder itself, which `tar -C FOLDER -cf NAME.tar .` adds."""
    for member in tar:
        if not Path(member.name).name.startswith(".") and Path(member.name).name:
            yield member


def _member_problem(member: tarfile.TarInfo, name: str, others: dict[str, Extent]) -> str | None:
    if member.isdir():
        return f"is a folder; {SIDE_BY_SIDE}"
    if "/" in name:
        return f"lies in a folder of the shard; {SIDE_BY_SIDE}"
    if not member.isreg() or member.issparse():
        return "is a link or no ordinary file; tar -h stores the files that links lead to"
    return "is in it twice" if name in others else None


def _why_unreadable(shard: Path, error: tarfile.TarError) -> str:
    with shard.open("rb") as stream:
        start = stream.read(8)
    if not start:
        return "is an empty file"
    return COMPRESSED if start.startswith(COMPRESSED_STARTS) else f"is cut off, or is no tar file ({error})"


def _ends_at(shard: Path, end: int) -> bool:
    """Whether the block of zeros is there that ends a tar file; Python takes a shorter one for whole."""
    with shard.open("rb") as stream:
        stream.seek(end)
        return stream.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)


def extract(images: Iterable[Path], extras: Iterable[str], folder: Path) -> list[Path]:
    """Writes images that lie in one shard into a folder, and members named in `extras` if they are there.

    Raises:
        ShardError: the shard cannot be used, or holds such an image no more.
    """
    images = list(images)
    shard = images[0].parent
    members = _members(shard, tuple(stamp(shard)))
    if missing := [image.name for image in images if image.name not in members]:
        raise ShardError(shard, [f"{shard.name} holds no {name} any more" for name in missing])
    with shard.open("rb") as stream:
        for name in [*(image.name for image in images), *(name for name in extras if name in members)]:
            stream.seek(members[name].offset)
            (folder / name).write_bytes(stream.read(members[name].size))
    return [folder / image.name for image in images]


@lru_cache(maxsize=2)  # a worker goes through one shard after the other
def _members(shard: Path, state: tuple[int, ...]) -> dict[str, Extent]:
    return read_shard(shard)
