"""Preprocessed unlabelled cases of a shard in one file.

Each shard becomes `SHARD.tar`, whose members are the three files that a loose case has, and `SHARD.npz`, its index,
which is written last and records what it was made from: a shard is complete when that record holds. So a start looks
at shards and not at cases.
"""

import json
import tarfile
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_diffusion_ensemble.data.loose_cases import CASE_FILE_ENDINGS
from nnunet_diffusion_ensemble.data.preprocessing_job import PreprocessedCase, PreprocessingJob
from nnunet_diffusion_ensemble.images.reading import ImageError
from nnunet_diffusion_ensemble.nnunet.raw_shards import SHARD_ENDING, ShardError
from nnunet_diffusion_ensemble.nnunet.unlabelled_cases import images_in_shard
from nnunet_diffusion_ensemble.system.atomic import whole_file
from nnunet_diffusion_ensemble.system.records import stamp

FORMAT = 1
INDEX_ENDING = ".npz"


@dataclass(frozen=True)
class PackedShard:
    """The index of a packed shard that is whole.

    Attributes:
        file: with the cases.
        names: of the cases, (cases,).
        extents: offset and size in bytes of each case's members, in the order of `CASE_FILE_ENDINGS`, (cases, 3, 2).
        record: what it was made from.
    """

    file: Path
    names: np.ndarray
    extents: np.ndarray
    record: dict[str, Any]

    @classmethod
    def read(cls, index: Path) -> "PackedShard | None":
        """None if the index or the file with the cases is missing, cut off, or of another form."""
        file = index.with_suffix(SHARD_ENDING)
        try:
            with np.load(index) as arrays:
                packed = cls(file, arrays["names"], arrays["extents"], json.loads(str(arrays["record"])))
            is_whole = packed.record["written_size"] == file.stat().st_size and packed.record["format"] == FORMAT
        except Exception:  # damaged archives raise errors of any kind
            return None
        return packed if is_whole else None

    def fits(self, job: PreprocessingJob, raw_shard: Path | None) -> bool:
        """Whether it was made with these plans and from this shard as it is now (None: any)."""
        is_planned = self.record["preprocessing"] == job.fingerprint
        return is_planned and (raw_shard is None or self.record["source"] == stamp(raw_shard))

    def write_index(self) -> None:
        """Writes the index, whole or not at all."""
        with whole_file(index_of(self.file)) as temporary, temporary.open("wb") as stream:
            np.savez(stream, names=self.names, extents=self.extents, record=np.array(json.dumps(self.record)))


def index_of(file: Path) -> Path:
    """The index of a file of packed cases."""
    return file.with_suffix(INDEX_ENDING)


def packed_shards(folder: Path) -> list[PackedShard]:
    """The shards of a preprocessed folder that are whole, by name."""
    found = (PackedShard.read(index) for index in sorted(folder.glob(f"[!.]*{INDEX_ENDING}")))
    return [packed for packed in found if packed is not None]


def shards_of_others(folder: Path, names: Collection[str]) -> list[Path]:
    """Files of packed shards that belong to none of those named; indices first."""
    files = [path for ending in (INDEX_ENDING, SHARD_ENDING) for path in folder.glob(f"[!.]*{ending}")]
    return [path for path in files if path.with_suffix(SHARD_ENDING).name not in names]


def preprocess_shard(job: PreprocessingJob, raw_shard: Path) -> list[str]:
    """Preprocesses and saves a shard, whole or not at all; returns what is wrong with its images, if anything."""
    source, problems = stamp(raw_shard), []
    with closing(_Writer(job, raw_shard.name)) as writer:
        try:
            for name, images in images_in_shard(raw_shard, job.dataset_json["file_ending"]).items():
                try:
                    writer.add(name, job.preprocess(images))
                except ImageError as error:
                    problems.append(error.short)
        except ShardError as error:
            return [*problems, *error.problems]
        if not problems:
            writer.finish(source)
    return problems


class _Writer:
    """A packed shard while it is written."""

    def __init__(self, job: PreprocessingJob, name: str):
        self._job, self._written, self._final = job, job.in_progress / name, job.folder / name
        self._names: list[str] = []
        self._extents: list[list[tuple[int, int]]] = []
        with job.writing(name):
            self._tar = tarfile.open(self._written, "w")  # noqa: SIM115 - `close` closes it

    def close(self) -> None:
        with self._job.writing(self._final.name):
            self._tar.close()

    def add(self, name: str, case: PreprocessedCase) -> None:
        truncated = str(self._job.in_progress / f"{self._final.stem}_{name}")
        with self._job.writing(f"case {name}"):
            self._job.write(case, truncated)
            extents = [self._move(Path(truncated + ending), name + ending) for ending in CASE_FILE_ENDINGS]
        self._names.append(name)
        self._extents.append(extents)

    def _move(self, file: Path, name: str) -> tuple[int, int]:
        """Makes a file a member; returns its offset and size in bytes."""
        member = tarfile.TarInfo(name)
        member.size = file.stat().st_size
        with file.open("rb") as stream:
            self._tar.addfile(member, stream)
        file.unlink()
        blocks = -(-member.size // tarfile.BLOCKSIZE)
        return self._tar.offset - blocks * tarfile.BLOCKSIZE, member.size

    def finish(self, source: list[int]) -> None:
        """Puts the file in its place, and beside it the index that vouches for it."""
        self.close()
        with self._job.writing(self._final.name):
            index_of(self._final).unlink(missing_ok=True)  # an old one must not vouch for new data
            written_size = self._written.stat().st_size
            self._written.replace(self._final)
            record = {"format": FORMAT, "source": source, "preprocessing": self._job.fingerprint}
            names, extents = np.array(self._names, np.str_), np.array(self._extents, np.int64).reshape(-1, 3, 2)
            PackedShard(self._final, names, extents, record | {"written_size": written_size}).write_index()
