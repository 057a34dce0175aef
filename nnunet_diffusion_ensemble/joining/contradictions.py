"""What keeps benchmarks from being joined: other settings, or another model or other cases under one name."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from nnunet_diffusion_ensemble.benchmark.groups import QUARTILES
from nnunet_diffusion_ensemble.benchmark.results import SPEC
from nnunet_diffusion_ensemble.benchmark.spec import DomainSpec, ModelSpec
from nnunet_diffusion_ensemble.joining.parts import AGAIN, Part, TrainedModel
from nnunet_diffusion_ensemble.system.messages import first_few

# Two results can only be compared if these are the same.
SETTINGS = (
    *("unit", "nsd_tolerance", "mirroring", "tile_step_size", "subgroups", "target_mix"),
    *("instances", "match_iou", "lesion_sizes"),
)
RENAME = "give one of them another name (--rename)"
NUM_NAMED = 3
Named = TypeVar("Named", ModelSpec, DomainSpec)


def reasons_against(parts: Sequence[Part]) -> list[str]:
    """What keeps parts from being joined, in words."""
    between = [text for position, part in enumerate(parts) for text in _against(part, parts[:position])]
    return [*between, *_of_all(parts)]


def _against(part: Part, others: Sequence[Part]) -> Iterator[str]:
    """What contradicts parts before it."""
    for other in others:
        for setting in SETTINGS:
            one, two = getattr(other.spec, setting), getattr(part.spec, setting)
            if one != two:
                yield f"{setting} is {_shown(one)} in {other.name} and {_shown(two)} in {part.name}"
        for model, before in _pairs(part.spec.models, other.spec.models):
            yield from _other_use(other, before, part, model)
        for domain, before_domain in _pairs(part.spec.domains, other.spec.domains):
            if domain.role != before_domain.role:
                roles = f"a {before_domain.role} in {other.name} and a {domain.role} in {part.name}"
                yield f"{domain.name} is {roles}"
        for trained in filter(other.trained.__contains__, part.trained):
            yield from _other_files(other, part, trained)
        for name in filter(other.tested.__contains__, part.tested):
            yield from _other_cases(other, part, name)


def _of_all(parts: Sequence[Part]) -> Iterator[str]:
    if not common_metrics(parts):
        yield f"there is no metric that all of them have ({AGAIN})"
    cases = [{name: set(one["cases"]) for name, one in part.tested.items()} for part in parts]
    if QUARTILES in parts[0].spec.subgroups.values() and any(one != cases[0] for one in cases):
        yield f"{SPEC}: quartiles of subgroups are those of other cases in each; give edges instead ({AGAIN})"


def _pairs(parts: Sequence[Named], others: Sequence[Named]) -> Iterator[tuple[Named, Named]]:
    """Those of one title."""
    by_title = {other.title: other for other in others}
    yield from ((part, by_title[part.title]) for part in parts if part.title in by_title)


def _shown(setting: Any) -> str:
    return "none" if setting in (None, (), {}) else str(setting)


def _other_use(before: Part, one: ModelSpec, part: Part, two: ModelSpec) -> Iterator[str]:
    for setting in ("checkpoint", "postprocessed", "calibrated"):
        if getattr(one, setting) != getattr(two, setting):
            values = f"{getattr(one, setting)} in {before.name} and {getattr(two, setting)} in {part.name}"
            yield f"{setting} of {one.title} is {values}: {RENAME}"


def _other_files(before: Part, part: Part, trained: TrainedModel) -> Iterator[str]:
    one, two = before.trained[trained], part.trained[trained]
    if changed := _differing(one, two):
        name, number, seed = trained
        labelled = "" if number is None else f" with {number} labelled case(s)"
        files = first_few(changed, NUM_NAMED)
        yield f"{name}{labelled}, seed {seed} is another model in {part.name} than in {before.name} ({files}): {RENAME}"


def _other_cases(before: Part, part: Part, domain: str) -> Iterator[str]:
    one, two = before.tested[domain], part.tested[domain]
    if differ := _differing(one["cases"], two["cases"]):
        yield (
            f"{domain} has other cases, images or references in {part.name} than in {before.name} "
            f"({first_few(differ, NUM_NAMED)}): other cases need another name of the domain"
        )
    elif one["tables"] != two["tables"]:
        yield f"{domain} has other tables of patients or metadata in {part.name} than in {before.name}"


def _differing(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    return [name for name in {**one, **two} if one.get(name) != two.get(name)]


def common_metrics(parts: Sequence[Part]) -> tuple[str, ...]:
    """In the order of the first part."""
    return tuple(name for name in parts[0].spec.metrics if all(name in part.spec.metrics for part in parts))
