"""SHA-256 of many files, each read once: again only when its size or its time of change is another."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_diffusion_ensemble.system.records import sha256, stamp

Entry = Sequence[int | str]  # size, time of change in nanoseconds, checksum


@dataclass
class KnownChecksums:
    """Checksums by the path of the file; `entries` can be written as JSON and taken up again."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def of(self, file: Path) -> str:
        """The checksum of a file. Raises OSError if it cannot be read."""
        now = stamp(file)  # first: what is written meanwhile is another file next time
        if not self._has(file, now):
            self.entries[str(file)] = [*now, sha256(file)]
        return str(self.entries[str(file)][2])

    def _has(self, file: Path, now: Sequence[int]) -> bool:
        return list(self.entries.get(str(file), ())[:2]) == now

    def read(self, files: Iterable[Path], num_threads: int, done: Callable[[int, int], None]) -> None:
        """Reads those of the files that are not known, and forgets all others.

        Args:
            files: all that are of interest.
            num_threads: that read.
            done: is told how many have been read, and of how many.
        """
        wanted = {str(file): file for file in files}
        self.entries = {name: entry for name, entry in self.entries.items() if name in wanted}
        unknown = [file for file in wanted.values() if not self._has(file, stamp(file))]
        with ThreadPoolExecutor(num_threads) as pool:
            for position, _ in enumerate(pool.map(self.of, unknown), start=1):
                done(position, len(unknown))
