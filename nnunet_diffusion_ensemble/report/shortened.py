"""Names and sentences that must fit into a given room."""

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def short(text: str, length: int) -> str:
    """A name of at most so many characters; of a longer one both ends, as names often differ in the last word."""
    half = length // 2
    return text if len(text) <= length else f"{text[:half].rstrip()}{ELLIPSIS}{text[len(text) - length + half + 1 :]}"
