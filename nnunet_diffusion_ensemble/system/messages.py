"""How errors are told."""


def in_one_line(error: BaseException) -> str:
    """What an error says, with its kind where it was not written for users."""
    text = " ".join(str(error).split())
    return (
        text if isinstance(error, (ValueError, OSError, RuntimeError)) and text else f"{type(error).__name__}: {text}"
    )


def raise_listing(headline: str, problems: list[str]) -> None:
    """Raises a `ValueError` with a line for each problem, if there is any."""
    if problems:
        raise ValueError("\n  ".join([headline, *problems]))
