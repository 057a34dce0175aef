"""`benchmark.json`: from which files, with what and how the results of a benchmark were made; what changed since."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nnunet_diffusion_ensemble.benchmark.work import STEPS
from nnunet_diffusion_ensemble.system.json_files import read_object
from nnunet_diffusion_ensemble.system.records import as_written, read_record, write_record

RECORD, SCHEMA_VERSION = "benchmark.json", 1
AGAIN = "Remove it: `nnunet-diffusion benchmark` writes it again."
ADVICE = (
    "`nnunet-diffusion benchmark` makes anew what depends on them, in the place of the results that are there. To keep "
    "those, bring the files back, or name another output."
)
NUM_NAMED = 20


@dataclass(frozen=True)
class BenchmarkRecord:
    """Everything that is needed to repeat a benchmark, as it stands in the file.

    Attributes:
        specification: with all defaults and absolute paths.
        statistics: seed and number of the bootstrap's replicates.
        models: a part a trained model, with the checksums of its files.
        domains: a part a domain, with the checksums of each case's images and reference.
        results: checksums of the tables.
        work: when a model was at work on a domain, how long, and in which of the environments.
        environments: versions and hardware, each once.
        schema_version: of this form.
    """

    specification: Mapping[str, Any]
    statistics: Mapping[str, Any]
    models: list[Mapping[str, Any]]
    domains: list[Mapping[str, Any]]
    results: Mapping[str, str]
    work: list[Mapping[str, Any]]
    environments: list[Mapping[str, Any]]
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def read(cls, folder: Path) -> "BenchmarkRecord | None":
        """That of a benchmark's output; None if there is none, as of older versions.

        Raises:
            ValueError: it is damaged, or of another version.
        """
        file = folder / RECORD
        if not file.exists():
            return None
        content = read_object(file, AGAIN)
        version = content.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ValueError(f"{file} has schema_version {version}, this version reads {SCHEMA_VERSION}. {AGAIN}")
        missing = [one.name for one in fields(cls) if one.name not in content]
        if missing:
            raise ValueError(f"{file} lacks {', '.join(missing)}. {AGAIN}")
        return cls(**{one.name: content[one.name] for one in fields(cls)})

    def write(self, folder: Path) -> None:
        """Writes it, unless it stands there."""
        content = as_written({"schema_version": self.schema_version, **asdict(self)})
        if content != read_record(folder / RECORD):
            write_record(folder / RECORD, content, indent=1)

    @property
    def finished(self) -> str:
        """When the last model was done, in UTC (ISO 8601); empty if nobody noted it."""
        notes = [part[step] for part in self.work for step in STEPS if part.get(step)]
        return max((note["finished"] for note in notes), default="")

    def files(self) -> dict[str, str]:
        """Checksums of all files that the results depend on, by their names for readers."""
        return dict(self._files())

    def _files(self) -> Iterator[tuple[str, str]]:
        for model in self.models:
            number = model["labelled_cases"]
            labelled = "" if number is None else f" with {number} labelled case(s)"
            for file, checksum in model["files"].items():
                yield f"model {model['name']}{labelled}, seed {model['seed']}: {file}", checksum
        for domain in self.domains:
            for case in domain["cases"].values():
                for file, checksum in (*case["images"].items(), *case["reference"].items()):
                    yield f"domain {domain['name']}: {file}", checksum
            for what, file in domain["tables"].items():
                yield f"domain {domain['name']}: table of {what}", file


def changed_files(before: BenchmarkRecord, now: BenchmarkRecord) -> list[str]:
    """What is another file than it was, is gone, or is new in a domain; models and whole domains may be added."""
    old, new = before.files(), now.files()
    known = tuple(f"domain {domain['name']}: " for domain in before.domains)
    changed = [f"{name} has changed" for name in old if name in new and old[name] != new[name]]
    gone = [f"{name} is gone, or is left out" for name in old if name not in new]
    return [*changed, *gone, *(f"{name} is new" for name in new if name not in old and name.startswith(known))]


def in_words(changes: Sequence[str]) -> str:
    """The first of the changes and what to do about them; nothing if there are none."""
    if not changes:
        return ""
    more = [f"... and {len(changes) - NUM_NAMED} more"] if len(changes) > NUM_NAMED else []
    head = f"{len(changes)} file(s) are not as {RECORD} names them:"
    return "\n  ".join([head, *changes[:NUM_NAMED], *more]) + f"\n{ADVICE}"
