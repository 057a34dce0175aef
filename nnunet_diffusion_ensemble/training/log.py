"""How pretraining is going: losses, by bands of timesteps as well, learning rate and time, logged and drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from torch import Tensor

from nnunet_diffusion_ensemble.system.atomic import whole_file

TRAIN_BANDS, VAL_BANDS = "train_loss_per_band", "val_loss_per_band"
GOLDEN_RATIO = (5**0.5 - 1) / 2


class TimestepBands:
    """The diffusion process cut into bands, in which losses are compared: they differ by orders of magnitude.

    Args:
        inner_edges: first timestep of each band but the first, which starts at 0.
        num_diffusion_steps: end of the last band.
    """

    def __init__(self, inner_edges: Sequence[int], num_diffusion_steps: int):
        self.starts, self.ends = (0, *inner_edges), (*inner_edges, num_diffusion_steps)
        self.shares = np.subtract(self.ends, self.starts) / num_diffusion_steps

    @property
    def names(self) -> list[str]:
        """First and last timestep of each band, e.g. `0-24`."""
        return [f"{start}-{end - 1}" for start, end in zip(self.starts, self.ends, strict=True)]

    def fixed_timesteps(self, first_image: int, num_images: int) -> Tensor:
        """One timestep in each band for each held-out image, always the same; (bands, num_images).

        The images of a set are spread evenly over a band (multiples of the golden ratio), so that their mean loss
        estimates the mean over the band, as that of random timesteps in training does.
        """
        position = (np.arange(first_image, first_image + num_images) + 0.5) * GOLDEN_RATIO % 1
        starts, ends = (np.array(values)[:, None] for values in (self.starts, self.ends))
        return torch.from_numpy(starts + (position * (ends - starts)).astype(int))

    def totals(self, timesteps: Tensor, losses: Tensor) -> Tensor:
        """Number of timesteps (N,) in each band and sum of their losses (N,); (2, bands)."""
        # By comparison with numbers: a tensor of edges would be copied to the GPU at each step, which halts it.
        band = sum(((timesteps >= start).long() for start in self.starts[1:]), torch.zeros_like(timesteps))
        totals = torch.zeros(2, len(self.starts), device=losses.device)
        return totals.index_add_(1, band, torch.stack([torch.ones_like(losses), losses]))


class HeldOutLossLogger(LocalLogger):
    """nnU-Net's logger for a training without labels, which has losses but no Dice."""

    loss_title, held_out_label = "loss", "held out"

    def __init__(self) -> None:
        super().__init__()
        for key in ("mean_fg_dice", "ema_fg_dice", "dice_per_class_or_region"):
            del self.my_fantastic_logging[key]

    def plot_progress_png(self, output_folder: str) -> None:
        """Writes progress.png: loss, what `draw_details` draws, learning rate, duration of epochs."""
        from matplotlib.figure import Figure  # not pyplot, which keeps figures that were not saved

        log = self.my_fantastic_logging
        epochs = range(min(len(values) for values in log.values()))
        figure = Figure(figsize=(14, 9), layout="constrained")
        axes = figure.subplots(2, 2)
        axes[0, 0].plot(epochs, log["train_losses"][: len(epochs)], "--", label="training")
        axes[0, 0].plot(epochs, log["val_losses"][: len(epochs)], label=self.held_out_label)
        axes[1, 0].plot(epochs, log["lrs"][: len(epochs)])
        times = zip(log["epoch_start_timestamps"], log["epoch_end_timestamps"], strict=False)
        axes[1, 1].plot(epochs, [end - start for start, end in times][: len(epochs)])
        titles = (
            self.loss_title,
            self.draw_details(axes[0, 1], epochs),
            "learning rate",
            "duration of an epoch, seconds",
        )
        for axis, title in zip(axes.flat, titles, strict=True):
            axis.set(title=title, xlabel="epoch")
            axis.grid(alpha=0.3)
        for axis in [axis for axis in axes[0] if axis.lines]:
            axis.set_yscale("log")
            axis.set_ylim(top=2 * axis.get_ylim()[1])  # room for the legend
            axis.legend(loc="upper right", ncols=3)
        with whole_file(Path(output_folder) / "progress.png") as temporary:
            figure.savefig(temporary, format="png", dpi=100)

    def draw_details(self, axis: Any, epochs: range) -> str:
        """Draws what there is beside the loss, here nothing; returns the title."""
        axis.set_visible(False)
        return ""


class PretrainingLogger(HeldOutLossLogger):
    """With losses of the denoiser by bands of timesteps."""

    loss_title, held_out_label = "loss, weighted", "held out, averaged weights"

    def __init__(self, bands: TimestepBands):
        super().__init__()
        self.bands = bands
        self.my_fantastic_logging.update({TRAIN_BANDS: [], VAL_BANDS: []})

    def draw_details(self, axis: Any, epochs: range) -> str:
        log = self.my_fantastic_logging
        for i, name in enumerate(self.bands.names):
            held_out, training = ([losses[i] for losses in log[key][: len(epochs)]] for key in (VAL_BANDS, TRAIN_BANDS))
            axis.plot(epochs, held_out, color=f"C{i}", label=f"timesteps {name}")
            axis.plot(epochs, training, "--", color=f"C{i}")
        return "loss by timesteps, unweighted (dashed: training)"
