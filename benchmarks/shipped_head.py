"""The head that ships for `nnunet-diffusion app`: from a results folder of the demo's `DiffusionEnsembleTrainer`.

nnunet-diffusion demo DEMO
python benchmarks/shipped_head.py DEMO
"""

import argparse
from pathlib import Path

from nnunet_diffusion_ensemble.demo.shipped_model import HEAD, write_head
from nnunet_diffusion_ensemble.demo.steps import OURS, trained_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="folder of a finished demo")
    write_head(parser.parse_args().demo / trained_model(OURS))
    print(f"Wrote {HEAD}: {HEAD.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
