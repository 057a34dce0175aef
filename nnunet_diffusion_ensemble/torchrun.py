"""`nnUNetv2_train` in processes that `torchrun` starts, on one machine or several; it takes the same arguments.

    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:29400 \
        -m nnunet_diffusion_ensemble.torchrun 1 2d all -tr DiffusionPretrainTrainer -p nnUNetDiffusionEnsemblePlans
"""

import os
import sys

import torch
import torch.distributed as dist
from nnunetv2.run.run_training import run_training_entry

SET_BY_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def check_start(environment: dict[str, str], arguments: list[str]) -> None:
    """Raises a `ValueError` where torchrun did not start this process, or nnU-Net is to start some itself."""
    missing = [name for name in SET_BY_TORCHRUN if name not in environment]
    if missing:
        raise ValueError(
            f"The variables {', '.join(missing)} are not set. Start this with torchrun --nproc-per-node GPUS -m "
            "nnunet_diffusion_ensemble.torchrun ARGUMENTS, or use nnUNetv2_train."
        )
    if any(argument.split("=")[0] == "-num_gpus" for argument in arguments):
        raise ValueError("Leave -num_gpus out: torchrun's --nproc-per-node says how many processes there are.")


def main() -> None:
    """Joins the processes; nnU-Net's trainers notice that, and share the batch."""
    try:
        check_start(dict(os.environ), sys.argv[1:])
    except ValueError as error:
        sys.exit(f"error: {error}")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group()  # NCCL for GPUs and gloo for CPUs
    run_training_entry()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
