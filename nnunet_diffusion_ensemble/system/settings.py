"""Settings as pydantic models: each key says its type, range and meaning, and every mistake is told in a sentence.

`mistakes.py` makes the sentences.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from typing_extensions import Self

from nnunet_diffusion_ensemble.system.mistakes import telling_mistakes

Item = TypeVar("Item")


def once(values: tuple) -> tuple:
    """Refuses what is named twice."""
    twice = [str(value) for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"{', '.join(twice)} twice; name each once")
    return values


Listed = Annotated[tuple[Item, ...], Field(strict=False)]  # a list of JSON, YAML or Python becomes a tuple
Once = AfterValidator(once)
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Fold = Annotated[int, Field(ge=0)] | Literal["all"]
Folds = Annotated[Listed[Fold], Field(min_length=1), Once]
Timesteps = Annotated[Listed[Annotated[int, Field(ge=0)]], Field(min_length=1), Once]


class Settings(BaseModel):
    """What a user may set. Nothing is converted (`"3"`, `True` and 3.0 are no whole numbers), nothing else is taken.

    Attributes:
        where: what stands before the keys in messages.
        other_keys: that are read before the model sees the values.

    Raises:
        ValueError: at construction, with a sentence for each mistake.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    where: ClassVar[str] = ""
    other_keys: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **values: Any) -> None:
        with telling_mistakes(type(self), values, self.where):
            super().__init__(**values)

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # settings in settings are read without it

    @classmethod
    def read(cls, values: Any, where: str | None = None, **context: Any) -> Self:
        """Settings from JSON's values.

        Args:
            values: a mapping.
            where: what stands before the keys in messages; None is the class's own.
            context: for the validators.

        Raises:
            ValueError: with a sentence for each mistake.
        """
        with telling_mistakes(cls, values, cls.where if where is None else where):
            return cls.model_validate(values, context=context)

    def changed(self, **changes: Any) -> Self:
        """A copy with other values, checked as new ones are."""
        return type(self)(**{**dict(self), **changes})

    def to_json(self) -> dict[str, Any]:
        """The values as JSON and YAML have types for them."""
        return plain(self.model_dump())


def plain(value: Any) -> Any:
    """Tuples as lists, paths as text."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
