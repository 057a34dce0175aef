"""Training in several processes (DDP) as if it were one: shares of the batch, noise, and waiting for the first."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

LONGEST_WAIT = timedelta(days=30)
BLOCK_SIZE = 8  # images

Result = TypeVar("Result")


@dataclass(frozen=True)
class BatchShare:
    """The images of a global batch that one process trains on.

    Attributes:
        start: position in the global batch of the first of them.
        loss_weight: factor of the mean loss over them. DDP takes the plain mean of all processes' gradients, which
            with this factor is the gradient of the mean over the global batch.
    """

    start: int = 0
    loss_weight: float = 1.0

    @classmethod
    def of_process(cls, rank: int, num_processes: int, global_batch_size: int) -> "BatchShare":
        """As nnU-Net shares it out: the first processes get one more where it cannot be shared evenly."""
        size, rest = divmod(global_batch_size, num_processes)
        own_size = size + (rank < rest)
        return cls(rank * size + min(rank, rest), own_size * num_processes / global_batch_size)


def without_wrappers(network: nn.Module) -> Any:
    """The network itself, without the wrappers of DDP and torch.compile."""
    network = network.module if isinstance(network, DistributedDataParallel) else network
    return network._orig_mod if isinstance(network, OptimizedModule) else network


def device_of_process(kind: str) -> torch.device:
    """`cpu`, or this process's GPU: the number of the process on its machine, which is its rank if there is but one."""
    if kind != "cuda":
        return torch.device(kind)
    return torch.device(kind, int(os.environ.get("LOCAL_RANK", dist.get_rank())))


def seeded_generator(device: torch.device, *numbers: int) -> torch.Generator:
    """Random numbers that depend on some numbers alone, such as seed, iteration and position in the global batch."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state))


def drawn_in_blocks(
    draw: Callable[[torch.Generator, int], Tensor], device: torch.device, images: range, *numbers: int
) -> Tensor:
    """Random numbers for some images of the global batch, the same whatever process draws them.

    Images share a generator in blocks of BLOCK_SIZE, at fixed places of the global batch: a GPU waits for the host
    where each image has its own, and each process would draw for all the others if there were but one.

    Args:
        draw: from a generator and a number of images to their numbers (images, ...).
        device: of the numbers.
        images: positions in the global batch.
        numbers: that they depend on, such as seed and iteration.
    """
    blocks = range(images.start // BLOCK_SIZE, -(-images.stop // BLOCK_SIZE))
    drawn = torch.cat([draw(seeded_generator(device, *numbers, block), BLOCK_SIZE) for block in blocks])
    first = blocks.start * BLOCK_SIZE
    return drawn[images.start - first : images.stop - first]


def from_first_process(compute: Callable[[], Result]) -> Result:
    """What a function returns, which runs in the first process only, while the others wait as long as it takes.

    They wait on sockets (gloo): NCCL takes a wait of ten minutes for a failure, and ends the training.
    """
    if not dist.is_initialized():
        return compute()
    group = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
    assert isinstance(group, dist.ProcessGroup)  # every process is in it
    results = [compute() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(results, src=0, group=group)
    dist.destroy_process_group(group)
    return results[0]  # type: ignore[return-value]


def from_all_processes(own: Tensor) -> Tensor:
    """The tensors of all processes, all of one shape, one after the other along the first axis.

    Gradients flow into this process's own alone. So if each process computes one loss from all of them, the mean of
    gradients that DDP takes is that of the loss divided by the number of processes.
    """
    if not dist.is_initialized():
        return own
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own.detach().contiguous())
    parts[dist.get_rank()] = own
    return torch.cat(parts)
