"""Errors of nnU-Net and torch that people ask about most: their own words say what broke, these what to do."""

import re

# Patterns of `TYPE: message`, the first that fits counts.
EXPLANATIONS = (
    (
        r"background worker",
        "A worker process has ended. What it printed stands above; if nothing does, the system ended it for want of "
        "memory. Fewer workers need less: export nnUNet_n_proc_DA=2 for training, -np 1 for preprocessing; in Docker "
        "give more shared memory (--shm-size=8g). nnunet-diffusion doctor says what this machine has.",
    ),
    (
        r"^(BackendCompilerFailed|InductorError|TritonMissing)|[Tt]riton|torch\._(dynamo|inductor)",
        "torch.compile does not work on this machine. Train without it: export nnUNet_compile=f; the result is the "
        "same, only slower.",
    ),
    (
        r"not compiled with CUDA|No CUDA GPUs|NVIDIA driver|CUDA driver|no kernel image",
        "torch cannot use a GPU here: compute on the CPU with -device cpu, or install the torch that fits the driver "
        "(nvidia-smi says which CUDA it knows, pytorch.org/get-started which torch that is).",
    ),
    (
        r"parameters of key .* Pretrained model|missing in the pretrained model weights",
        "The file of -pretrained_weights is of another network, so that it cannot be taken over. Plan for it with: "
        "nnunet-diffusion plan -d ID --denoiser FILE, which adapts topology and channels.",
    ),
    (
        r"FileNotFoundError: .*[Pp]lans[^/\\]*\.json",
        "The data set has no such plans. Make them with: nnunet-diffusion plan -d ID, or name those that it has: "
        "-p nnUNetDiffusionEnsemblePlans.",
    ),
)


def explained(error: BaseException) -> str:
    """What to do about an error, and what it says itself; empty if it is not one of those."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    advice = next((advice for pattern, advice in EXPLANATIONS if re.search(pattern, text)), "")
    return f"{advice} (It says: {_shortened(text)})" if advice else ""


def _shortened(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
