"""Fine-tuning that begins when the head has been trained: a training that starts from the weights of another one.

    python benchmarks/head_first.py 64 FOLD --first SHIFT --then FINER

FIRST and THEN are plans of one data set and network. `DiffusionEnsembleTrainer` has trained the fold with FIRST, and in
THEN `training.fine_tune_denoiser` is true. nnU-Net's `-pretrained_weights` would leave the head as it was made.
"""

import argparse
from pathlib import Path

from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.file_path_utilities import get_output_folder

from nnunet_diffusion_ensemble.nnunet.checkpoint import read_checkpoint
from nnunet_diffusion_ensemble.study.timed_training import Fold

TRAINER, CONFIGURATION = "DiffusionEnsembleTrainer", "2d"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="number or name")
    parser.add_argument("fold", type=int)
    parser.add_argument("--first", required=True, help="name of the plans whose training is there")
    parser.add_argument("--then", required=True, help="name of the plans to train with")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    dataset = maybe_convert_to_dataset_name(args.dataset)
    trained = Path(get_output_folder(dataset, TRAINER, args.first, CONFIGURATION)) / f"fold_{args.fold}"
    weights = read_checkpoint(trained / "checkpoint_final.pth")["network_weights"]
    trainer = Fold(dataset, CONFIGURATION, args.fold, TRAINER, args.then, args.device).make_trainer()
    trainer.initialize()
    trainer.network.load_state_dict(weights)
    trainer.run_training()
    trainer.perform_actual_validation()


if __name__ == "__main__":
    main()
