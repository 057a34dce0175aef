"""Preprocessed unlabelled cases, loose and in shards, as a data set of nnU-Net's loader.

It holds arrays and no object a case, which the loader's processes share where they are forked, and no open file, so
that it can be forked and pickled.
"""

import pickle
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset, nnUNetDatasetBlosc2

from nnunet_diffusion_ensemble.data.loose_cases import CASE_FILE_ENDINGS
from nnunet_diffusion_ensemble.data.packed_shards import packed_shards

LOOSE = -1
# A case up to this size is read at once and larger ones are opened in place, so that a patch of a volume costs a patch.
READ_WHOLE_BYTES = 2**20


class UnlabelledDataset(nnUNetBaseDataset):
    """All cases of a folder that are complete.

    Args:
        folder: as `preprocess_unlabelled` returns it; without cases if it is missing.

    Attributes:
        identifiers: the names, sorted, (cases,).
    """

    def __init__(self, folder: Path | str) -> None:
        super().__init__(str(folder), [])
        self._loose = nnUNetDatasetBlosc2(str(folder), [])
        loose = [path.name.removesuffix(".pkl") for path in Path(folder).glob("[!.]*.pkl")]
        shards = packed_shards(Path(folder))
        names = np.concatenate([np.array(loose, np.str_), *(shard.names for shard in shards)])
        extents = np.concatenate([np.zeros((len(loose), 3, 2), np.int64), *(shard.extents for shard in shards)])
        numbers = np.repeat(np.arange(LOOSE, len(shards), dtype=np.int32), [len(loose), *map(len, _names(shards))])
        order = np.argsort(names, kind="stable")
        self.identifiers: np.ndarray = names[order]
        self._files = [str(shard.file) for shard in shards]
        self._numbers, self._extents = numbers[order], extents[order]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        blosc2.set_nthreads(1)  # of a worker's process, as nnU-Net's data set does where it is made

    def __contains__(self, identifier: str) -> bool:
        return self._row(identifier) is not None

    def _row(self, identifier: str) -> int | None:
        row = int(np.searchsorted(self.identifiers, identifier))
        return row if row < len(self.identifiers) and self.identifiers[row] == identifier else None

    def load_case(self, identifier: str) -> tuple[Any, Any, None, dict]:
        """Image (channels, *space) and mask (1, *space), large ones lazily read; None for the stage before; properties.

        Raises:
            KeyError: there is no such case.
        """
        if (row := self._row(identifier)) is None:
            raise KeyError(f"{identifier} is not in {self.source_folder}")
        number = self._numbers[row]
        if number == LOOSE:
            return self._loose.load_case(identifier)
        file, extents = self._files[number], self._extents[row].tolist()
        assert len(extents) == len(CASE_FILE_ENDINGS)  # members lie one after the other, in this order
        start, end = extents[0][0], sum(extents[-1])
        if end - start <= READ_WHOLE_BYTES:
            members = _read(file, extents)
            mask, image = map(blosc2.ndarray_from_cframe, members[:2])
        else:
            members = _read(file, extents[-1:])
            options = {"mode": "r", "dparams": {"nthreads": 1}, **self._loose.mmap_kwargs}  # nnU-Net's
            mask, image = (blosc2.open(file, offset=offset, **options) for offset, _ in extents[:2])
        return image, mask, None, pickle.loads(members[-1])

    @staticmethod
    def get_identifiers(folder: str) -> list[str]:
        return UnlabelledDataset(folder).identifiers.tolist()

    @staticmethod
    def save_case(data: np.ndarray, seg: np.ndarray, properties: dict, output_filename_truncated: str) -> None:
        raise NotImplementedError("Unlabelled cases are written by preprocess_unlabelled.")


def _names(shards: list) -> list[np.ndarray]:
    return [shard.names for shard in shards]


def _read(file: str, extents: list[list[int]]) -> list[bytes]:
    """Members that lie one after the other, read at once."""
    start, end = extents[0][0], sum(extents[-1])
    with Path(file).open("rb") as stream:
        stream.seek(start)
        content = stream.read(end - start)
    return [content[offset - start : offset - start + size] for offset, size in extents]
