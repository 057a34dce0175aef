"""The summary at the top of a report: what the numbers say, in words that claim no more than they do."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from nnunet_diffusion_ensemble.report.tables import format_p, format_value
from nnunet_diffusion_ensemble.report.view import View
from nnunet_diffusion_ensemble.statistics.comparison import ALPHA


@dataclass(frozen=True)
class Statistics:
    """`describe`, `compare_models` and `domain_gaps` of what a view shows."""

    described: pd.DataFrame
    compared: pd.DataFrame
    gaps: pd.DataFrame


def findings(view: View, statistics: Statistics) -> Iterator[str]:
    """Sentences about the best model of each domain and its lead, then about the domain gap."""
    for label in view.labels:
        for domain in view.domains:
            yield from _best(view, statistics, label, domain.name)
        yield from _gap(view, statistics, label)


def caveats(view: View) -> Iterator[str]:
    """What must be known to read them."""
    seeds = sorted({len(model.seeds) for model in view.chosen_models()})
    if seeds == [1]:
        yield (
            "Each model was trained once. The intervals tell how much the cases matter, not how another training of "
            "the same model would have done."
        )
    else:
        yield (
            f"Models were trained {_range(seeds)} times each. So few trainings say little about how much trainings "
            "differ; the intervals are to be read with that in mind."
        )
    yield (
        f"A difference is called significant if p < {ALPHA} in a Wilcoxon signed-rank test of paired cases, after "
        "Holm's correction for all pairs of models compared in that domain. The test takes the trainings as they are: "
        "it says that these models differ on such cases, not that other trainings would. What is not significant is "
        "not shown to be equal."
    )


def _range(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def leaders(view: View, statistics: Statistics) -> pd.DataFrame:
    """The best model by number of labelled cases, domain and label, with the second and its distance."""
    rows = []
    for number in sorted(statistics.described["labelled_cases"].dropna().unique()):
        at_number = statistics.described["labelled_cases"] == number
        for label in view.labels:
            for domain in view.domains:
                ranked = _ranked(view, statistics.described[at_number], label, domain.name)
                if len(ranked) > 1:
                    rows.append({"labelled_cases": number, **_leader(view, statistics, ranked)})
    return pd.DataFrame(rows)


def _leader(view: View, statistics: Statistics, ranked: pd.DataFrame) -> dict[str, object]:
    first, second = ranked.iloc[0], ranked.iloc[1]
    pair = _comparison(statistics.compared, first, second)
    return {
        "domain": first["domain"],
        "label": first["label"],
        "best": first["model"],
        "best_mean": first["mean"],
        "second": second["model"],
        "second_mean": second["mean"],
        "p_holm": None if pair is None else pair["p_holm"],
    }


def _ranked(view: View, described: pd.DataFrame, label: str, domain: str) -> pd.DataFrame:
    """Models of a label and domain, the best first."""
    rows = described[(described["label"] == label) & (described["domain"] == domain)].dropna(subset="mean")
    return rows.sort_values("mean", ascending=not view.metric.higher_is_better, kind="stable")


def _best(view: View, statistics: Statistics, label: str, domain: str) -> Iterator[str]:
    ranked = _ranked(view, view.chosen(statistics.described), label, domain)
    if ranked.empty:
        return
    first = ranked.iloc[0]
    value = _value(view, first["mean"], first["ci_low"], first["ci_high"])
    where = f"In {domain} ({view.roles[domain]}; {_sample(first)}{_trained(first)})"
    if len(ranked) == 1:
        yield f"{where}, {first['model']} has a mean {view.metric.title} of {value} for {label}."
        return
    yield (
        f"{where}, {first['model']} has the best mean {view.metric.title} for {label}: {value}. "
        f"{_lead(view, statistics.compared, first, ranked.iloc[1])}{_others(statistics.compared, ranked)}"
    )


def _sample(row: pd.Series) -> str:
    patients = "" if row["num_patients"] == row["num_cases"] else f" of {row['num_patients']} patients"
    seeds = f"{row['num_seeds']} seed{'' if row['num_seeds'] == 1 else 's'}"
    return f"{row['num_cases']} case{'' if row['num_cases'] == 1 else 's'}{patients}, {seeds}"


def _trained(row: pd.Series) -> str:
    return "" if pd.isna(row["labelled_cases"]) else f", trained on {row['labelled_cases']} labelled"


def _value(view: View, mean: float, low: float, high: float) -> str:
    unit = view.results.spec.unit
    text = format_value(view.metric.name, mean, unit)
    if pd.isna(low) or pd.isna(high):
        return text
    ends = [format_value(view.metric.name, end, unit) for end in (low, high)]
    return f"{text} (95% interval {ends[0]} to {ends[1]})"


def _comparison(compared: pd.DataFrame, first: pd.Series, second: pd.Series) -> pd.Series | None:
    """The row that compares two models, with the difference as first less second."""
    rows = compared[(compared["domain"] == first["domain"]) & (compared["label"] == first["label"])]
    if not pd.isna(first["labelled_cases"]):
        rows = rows[(rows["labelled_cases"] == first["labelled_cases"]).fillna(False)]
    names = first["model"], second["model"]
    as_is = rows[(rows["model_a"] == names[0]) & (rows["model_b"] == names[1])]
    turned = rows[(rows["model_a"] == names[1]) & (rows["model_b"] == names[0])]
    if len(as_is):
        return as_is.iloc[0]
    if turned.empty:
        return None
    row = turned.iloc[0]
    values = {"mean_difference": -row["mean_difference"], "ci_low": -row["ci_high"], "ci_high": -row["ci_low"]}
    return pd.Series(row.to_dict() | values)


def _lead(view: View, compared: pd.DataFrame, first: pd.Series, second: pd.Series) -> str:
    pair = _comparison(compared, first, second)
    mean = format_value(view.metric.name, second["mean"], view.results.spec.unit)
    if pair is None:
        return (
            f"The next, {second['model']}, has {mean}; the two were trained on other numbers of cases and not compared."
        )
    low, high = pair["ci_low"], pair["ci_high"]
    ends = (low, high) if pair["mean_difference"] >= 0 else (-high, -low)
    difference = _value(view, abs(pair["mean_difference"]), *ends)
    text = f"The next is {second['model']} with {mean}; the difference of {difference} is "
    if pd.isna(pair["p_holm"]) or pair["p_holm"] >= ALPHA:
        return f"{text}not significant ({_p(pair)}): these results do not say which of the two is better."
    if pair["better"] != first["model"]:
        return f"{text}due to few cases: by the ranks of all of them {pair['better']} is better ({_p(pair)})."
    return f"{text}significant ({_p(pair)})."


def _p(pair: pd.Series) -> str:
    text = format_p(pair["p_holm"])
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _others(compared: pd.DataFrame, ranked: pd.DataFrame) -> str:
    """Of how many models the first is significantly better, where there are more than two."""
    if len(ranked) < 3:
        return ""
    pairs = [_comparison(compared, ranked.iloc[0], ranked.iloc[i]) for i in range(1, len(ranked))]
    better = sum(pair is not None and pair["better"] == ranked.iloc[0]["model"] for pair in pairs)
    if better == len(pairs):
        return f" It is significantly better than {'both' if better == 2 else f'all {better}'} other models."
    return f" It is significantly better than {better or 'none'} of the {len(pairs)} other models."


def _gap(view: View, statistics: Statistics, label: str) -> Iterator[str]:
    gaps = view.chosen(statistics.gaps)
    gaps = gaps[gaps["label"] == label].dropna(subset="gap")
    for (source, target), rows in gaps.groupby(["source", "target"], sort=False, observed=True):
        ranked = _ranked(view, view.chosen(statistics.described), label, str(target))
        in_order = ranked[ranked["model"].isin(rows["model"])]["model"]
        best = rows[rows["model"] == in_order.iloc[0]].iloc[0]
        alone = len(rows) == 1
        who = best["model"] if alone else f"{best['model']}, the best there,"
        text = f"From {source} to {target}, the mean {view.metric.title} of {who} {_change(view, best)}."
        yield text if alone else text + _least(view, best, rows)


def _change(view: View, row: pd.Series) -> str:
    """What a gap means: the target is lower, higher, or neither for certain."""
    low, high = row["ci_low"], row["ci_high"]
    if low <= 0 <= high:
        change, down, up = (format_value(view.metric.name, -row[name]) for name in ("gap", "ci_high", "ci_low"))
        return f"changes by no more than chance could explain ({change}, 95% interval {down} to {up})"
    ends = (low, high) if row["gap"] > 0 else (-high, -low)
    return f"{'falls' if row['gap'] > 0 else 'rises'} by {_value(view, abs(row['gap']), *ends)}"


def _least(view: View, best: pd.Series, rows: pd.DataFrame) -> str:
    losses = rows["gap"] if view.metric.higher_is_better else -rows["gap"]
    least = rows.loc[losses.idxmin()]
    if least["model"] == best["model"]:
        return " No other model loses less."
    gap = format_value(view.metric.name, least["gap"], view.results.spec.unit)
    return f" Least is lost by {least['model']} (source less target {gap})."
