"""Timesteps that are as far on the way in a diffusion process of any length as those of the usual one."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

USUAL_LENGTH = 1000  # of the diffusion process that timesteps in papers, defaults and trainers stand for
PUBLISHED_TIMESTEPS = (1, 10, 25, 50, 200, 400, 600, 800)  # TEDM, arXiv 2311.07421
# Settings that are timesteps, by dotted path, with the first timestep that each may have and its default.
TIMESTEP_SETTINGS: Mapping[str, tuple[int, Any]] = {
    "ensemble.timesteps": (0, PUBLISHED_TIMESTEPS),
    "ensemble.single_timestep": (0, 1),
    "pretraining.timestep_bands": (1, (25, 100, 250, 500)),
}
NUM_SAMPLING_STEPS = 50


def timesteps_on_the_way(timesteps: Sequence[int], num_diffusion_steps: int, first: int = 0) -> tuple[int, ...]:
    """Timesteps of the usual 1000 steps as those of another length that are as far on the way, in rising order.

    Args:
        timesteps: of 1000 steps.
        num_diffusion_steps: the other length.
        first: what comes to lie before it is left out.
    """
    scaled = {min(round(t * num_diffusion_steps / USUAL_LENGTH), num_diffusion_steps - 1) for t in timesteps}
    return tuple(sorted(t for t in scaled if t >= first))


def on_the_way(changes: Mapping[str, Any], num_diffusion_steps: int) -> dict[str, Any]:
    """Settings by dotted path, those that are timesteps of the usual 1000 steps as far on the way in another length."""
    changed = dict(changes)
    for path in changes.keys() & TIMESTEP_SETTINGS.keys():
        first, value = TIMESTEP_SETTINGS[path][0], changes[path]
        is_one = isinstance(value, int)
        found = timesteps_on_the_way([value] if is_one else value, num_diffusion_steps, first)
        changed[path] = found[0] if is_one else found
    return changed


def with_timesteps_on_the_way(values: Any) -> Any:
    """Settings of the method in which all defaults suit the length of the diffusion process.

    Args:
        values: the settings that are given, parts as mappings or models. What cannot be read stays for pydantic.
    """
    parts = _as_dicts(values)
    steps = parts.get("denoiser", {}).get("num_diffusion_steps", USUAL_LENGTH)
    if not isinstance(steps, int) or steps < 2 or steps == USUAL_LENGTH:
        return values
    defaults = on_the_way({path: default for path, (_, default) in TIMESTEP_SETTINGS.items()}, steps)
    defaults["pretraining.num_sampling_steps"] = min(NUM_SAMPLING_STEPS, steps)
    for path, default in defaults.items():
        part, name = path.split(".")
        parts.setdefault(part, {}).setdefault(name, default)
    return {**values, **parts}


def _as_dicts(values: Any) -> dict[str, Any]:
    """The parts of the settings that can be read, as far as they are given."""
    found = {}
    for name, part in values.items() if isinstance(values, Mapping) else ():
        if isinstance(part, BaseModel):
            found[name] = part.model_dump(exclude_unset=True)
        elif isinstance(part, Mapping):
            found[name] = dict(part)
    return found
