"""`nnunet-diffusion benchmark`: what it shows while it runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_diffusion_ensemble.cli.argument_types import positive

if TYPE_CHECKING:
    from nnunet_diffusion_ensemble.benchmark.progress import BenchmarkProgress
    from nnunet_diffusion_ensemble.benchmark.results import ResultFolder
    from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec

HELP = "test trained models on several hospitals: predictions, metrics, tables"
EXAMPLE = """\
an example of SPEC.yaml (paths start from its folder):
  output: results/lungs
  models:
    - name: TEDM
      folder: $nnUNet_results/Dataset001_Lungs/DiffusionEnsembleTrainer__nnUNetDiffusionEnsemblePlans__2d
      seeds: {0: [0], 1: [1], 2: [2]}      # three trainings, one fold each
      labelled_cases: 6
    - name: nnU-Net
      folder: $nnUNet_results/Dataset001_Lungs/nnUNetTrainer__nnUNetPlans__2d
      folds: [0, 1, 2, 3, 4]               # one training, whose folds are averaged
      labelled_cases: 6
  domains:
    - {name: Montgomery, role: source, images: montgomery/imagesTs, references: montgomery/labelsTs}
    - {name: Shenzhen, role: target, images: shenzhen/imagesTs, references: shenzhen/labelsTs}
  unit: px                                 # of distances; mm where spacing has a meaning
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    parser.add_argument("spec", type=Path, metavar="SPEC.yaml", help="what to test: see the example below")
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLE
    parser.add_argument("--dry-run", action="store_true", help="check everything, say what would be done, and stop")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read all files, say which are not those that the results were made from (benchmark.json), and stop",
    )
    parser.add_argument(
        "--device", choices=("cuda", "cpu", "mps"), help="of prediction, instead of the specification's"
    )
    parser.add_argument("--num-processes", type=positive, help="of evaluation, instead of the specification's")


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark, or says what it would do, or whether its files are as they were."""
    from nnunet_diffusion_ensemble.benchmark.runner import work_to_do
    from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
    from nnunet_diffusion_ensemble.benchmark.spec_file import read_spec

    changes = {name: getattr(args, name) for name in ("device", "num_processes") if getattr(args, name) is not None}
    spec = BenchmarkSpec.read(read_spec(args.spec).model_dump() | changes)
    if args.verify:
        return verify_and_show(spec)
    if not args.dry_run:
        run_and_show(spec)
        return 0
    with BenchmarkScreen() as screen:
        for line in work_to_do(spec, screen):
            print(line)
    return 0


def verify_and_show(spec: "BenchmarkSpec") -> int:
    """Says which files are others than those of the results: status 1 if there is one, or if any is gone or new."""
    from nnunet_diffusion_ensemble.benchmark.record import in_words
    from nnunet_diffusion_ensemble.benchmark.runner import verify_files

    with BenchmarkScreen() as screen:
        changes = verify_files(spec, screen)
    print(in_words(changes) or "All files of models and domains are those that the results were made from.")
    return 1 if changes else 0


def run_and_show(spec: "BenchmarkSpec") -> "ResultFolder":
    """Runs a benchmark and says where its results lie."""
    from nnunet_diffusion_ensemble.benchmark.results import PROBLEMS, read_table
    from nnunet_diffusion_ensemble.benchmark.runner import run_benchmark

    with BenchmarkScreen() as screen:
        output = run_benchmark(spec, screen)
    num_problems = len(read_table(output.problems_file))
    left_out = f" {num_problems} problem(s), see {PROBLEMS}." if num_problems else ""
    print(f"Wrote {output.results_file}.{left_out} Next: nnunet-diffusion report {output.folder}")
    return output


class BenchmarkScreen:
    """A bar for each step on a terminal, and a line for each step that is done."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._note = ""

    def __enter__(self) -> "BenchmarkScreen":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __call__(self, progress: "BenchmarkProgress") -> None:
        """Shows it."""
        from tqdm import tqdm

        if progress.note and progress.note != self._note:
            self._note = progress.note
            tqdm.write(progress.note)
        if not progress.total:
            return
        if self._bar is None:
            self._bar = tqdm(
                total=progress.total, desc=_described(progress), unit=_unit(progress), leave=False, disable=None
            )
        self._bar.update()
        if progress.done == progress.total:
            self._close()
            tqdm.write(f"{_described(progress)}: {progress.total} {_unit(progress)}(s)")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None


def _unit(progress: "BenchmarkProgress") -> str:
    return "file" if progress.step == "reading" else "case"


def _described(progress: "BenchmarkProgress") -> str:
    pairs = f" ({progress.pairs_done} of {progress.num_pairs} done)" if progress.num_pairs else ""
    return f"{progress.step.capitalize()} {progress.what}{pairs}"
