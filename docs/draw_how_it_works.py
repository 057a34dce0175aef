"""Draws the figures of docs/explanation/how_it_works.md: an X-ray noised, its features, and what a head makes of them.

    python docs/draw_how_it_works.py

Images are those of the sample, the denoiser is `chest-xray-64`; both ship with the package. The head is the package's
own, trained here (a minute and a half of one core) on the six labelled X-rays of the demo, at one timestep an image as
the default does.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from nnunet_diffusion_ensemble import LoadedDenoiser, load_denoiser
from nnunet_diffusion_ensemble.demo.hospitals import SAMPLE
from nnunet_diffusion_ensemble.method import HeadSettings
from nnunet_diffusion_ensemble.network.heads import PixelClassifier

IMAGES = Path(__file__).resolve().parent / "images"
TIMESTEPS = (1, 10, 25, 50, 200, 400, 600, 800)
SIZE_PX, ITERATIONS, LEARNING_RATE = 64, 400, 1e-3
SHOWN = "shenzhen"  # a hospital without a label in this training


def read(folder: str, case: str) -> tuple[np.ndarray, np.ndarray]:
    """An X-ray, z-scored, and its mask; both of 64 x 64 pixels."""
    image = Image.open(SAMPLE / folder / "images" / f"{case}.png").convert("L")
    mask = Image.open(SAMPLE / folder / "masks" / f"{case}.png").convert("L")
    pixels = np.asarray(image.resize((SIZE_PX, SIZE_PX), Image.Resampling.BILINEAR), np.float32)
    labels = np.asarray(mask.resize((SIZE_PX, SIZE_PX), Image.Resampling.NEAREST)) > 0
    return (pixels - pixels.mean()) / pixels.std(), labels


def features(denoiser: LoadedDenoiser, images: np.ndarray) -> list[Tensor]:
    """Of each level: (timesteps, images, features, height, width)."""
    return denoiser.features(images[:, None], timesteps=TIMESTEPS, preprocessed=True)


def train_head(levels: Sequence[Tensor], masks: Tensor) -> PixelClassifier:
    """On the features of labelled images, each at a timestep of its own in every iteration."""
    torch.manual_seed(0)
    head = PixelClassifier([level.shape[2] for level in levels], 2, 2, HeadSettings())
    optimizer = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE)
    which = torch.arange(len(masks))
    for _ in range(ITERATIONS):
        timesteps = torch.randint(len(TIMESTEPS), (len(masks),))
        loss = functional.cross_entropy(head([level[timesteps, which] for level in levels]), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head.eval()


# ---- figures


def row(axes: Sequence[Any], images: Sequence[np.ndarray], title: str, **options: Any) -> None:
    """One image on each axis; the title stands before the first."""
    for axis, image in zip(axes, images, strict=False):
        axis.imshow(image, **{"cmap": "gray", "interpolation": "nearest", **options})
    axes[0].set_ylabel(title)


def grid(rows: int, columns: int) -> tuple[Any, Any]:
    figure, axes = plt.subplots(rows, columns, figsize=(1.25 * columns, 1.5 * rows + 0.2), squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure, axes


def write(figure: Any, name: str) -> None:
    figure.tight_layout(pad=0.4)
    figure.savefig(IMAGES / f"{name}.png", dpi=110, metadata={"Software": None})
    plt.close(figure)


def draw_noised(denoiser: LoadedDenoiser, image: np.ndarray) -> None:
    """The image at each timestep, and the image that the denoiser takes it for."""
    module, times = denoiser.module, torch.tensor(TIMESTEPS)
    images = torch.from_numpy(image).expand(len(times), 1, -1, -1)
    noise = torch.randn((1, 1, SIZE_PX, SIZE_PX), generator=torch.manual_seed(0)).expand(images.shape)
    scaled = module.scaled(images)
    noisy = module.schedule.add_noise(scaled, noise, times)
    with torch.no_grad():
        found = module.schedule.predicted_image(module.unet(noisy, times), noisy, times)
    figure, axes = grid(2, len(times))
    bounds = {"vmin": float(scaled.min()), "vmax": float(scaled.max())}
    row(axes[0], list(noisy[:, 0].numpy()), "noised", **bounds)
    row(axes[1], list(found[:, 0].numpy()), "denoised", **bounds)
    for axis, t in zip(axes[0], TIMESTEPS, strict=True):
        axis.set_title(f"t = {t}\nsignal {module.schedule.alpha_bar[t] ** 0.5:.3f}", fontsize=9)
    write(figure, "how_it_works_noised")


def first_component(level: Tensor) -> np.ndarray:
    """(timesteps, height, width): the direction along which features differ most, over pixels of all timesteps."""
    pixels = level.permute(0, 2, 3, 1).flatten(0, 2)
    pixels = (pixels - pixels.mean(0)) / pixels.std(0)
    values = pixels @ torch.linalg.svd(pixels, full_matrices=False)[2][0]
    return values.reshape(len(level), *level.shape[2:]).numpy()


def draw_features(levels: Sequence[Tensor]) -> None:
    """First principal component of each level's features."""
    figure, axes = grid(len(levels), len(TIMESTEPS))
    for line, level in zip(axes, levels, strict=True):
        size, width = level.shape[-1], level.shape[2]
        row(line, list(first_component(level[:, 0])), f"{size} x {size}\n{width} features", cmap="viridis")
    for axis, t in zip(axes[0], TIMESTEPS, strict=True):
        axis.set_title(f"t = {t}", fontsize=9)
    write(figure, "how_it_works_features")


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def draw_predictions(image: np.ndarray, mask: np.ndarray, probabilities: np.ndarray) -> None:
    """Each timestep's lungs (line) beside the reference (dashed), their mean, and its entropy."""
    mean = probabilities.mean(0)
    entropy = -sum(p * np.log2(np.clip(p, 1e-7, 1)) for p in (mean, 1 - mean))
    figure, axes = grid(2, len(TIMESTEPS) // 2 + 1)
    by_timestep = [axis for line in axes for axis in line[:-1]]
    titles = [f"t = {t}" for t in TIMESTEPS]
    for axis, title, lungs in zip([*by_timestep, axes[0, -1]], [*titles, "mean"], [*probabilities, mean], strict=True):
        axis.imshow(image, cmap="gray", interpolation="nearest")
        axis.contour(mask, [0.5], colors="#56b4e9", linewidths=0.9, linestyles="dashed")
        axis.contour(lungs, [0.5], colors="#e69f00", linewidths=1.2)
        axis.set_title(f"{title}: {dice(lungs >= 0.5, mask):.3f}", fontsize=9)
    axes[1, -1].imshow(entropy, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    axes[1, -1].set_title("entropy", fontsize=9)
    write(figure, "how_it_works_predictions")


def main() -> None:
    matplotlib.use("Agg")
    denoiser = load_denoiser("chest-xray-64", device="cpu")
    cases = json.loads((SAMPLE / "montgomery" / "split.json").read_text())["train"]
    images, masks = zip(*(read("montgomery", case) for case in cases), strict=True)
    head = train_head(features(denoiser, np.stack(images)), torch.from_numpy(np.stack(masks)).long())
    shown = sorted(path.stem for path in (SAMPLE / SHOWN / "images").iterdir())[0]
    image, mask = read(SHOWN, shown)
    levels = features(denoiser, image[None])
    with torch.no_grad():
        logits = head([level[:, 0] for level in levels])
    draw_noised(denoiser, image)
    draw_features(levels)
    draw_predictions(image, mask, logits.softmax(1)[:, 1].numpy())


if __name__ == "__main__":
    main()
