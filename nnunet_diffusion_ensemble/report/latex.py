"""Tables of texts as LaTeX, for the packages booktabs and longtable."""

import pandas as pd

_SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": "$<$",
        ">": "$>$",
        "\N{MINUS SIGN}": "$-$",
        "\N{EN DASH}": "--",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


def escape(text: str) -> str:
    """A text that LaTeX sets as it is; one that starts with a bracket is no option of the line break before it."""
    escaped = text.translate(_SPECIAL)
    return f"{{}}{escaped}" if escaped.startswith("[") else escaped


def longtable(table: pd.DataFrame, name: str, title: str, caption: str) -> str:
    r"""The table, without its index, over as many pages as it takes; `\ref{tab:NAME}` refers to it."""
    style = table.style.hide(axis="index").format(escape).format_index(escape, axis="columns")
    text = style.to_latex(
        environment="longtable",
        hrules=True,
        column_format="l" * len(table.columns),
        caption=(f"{escape(title)}. {escape(caption)}", escape(title)),
        label=f"tab:{name.replace('_', '-')}",
    )
    head, further = text.split(r"\caption[]{", maxsplit=1)  # pandas repeats the caption on every page
    rest = further.split("\n", maxsplit=1)[1]
    return "\n".join((r"% Needs \usepackage{booktabs, longtable}.", rf"{head}\caption[]{{(continued)}} \\", rest))
