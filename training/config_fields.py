"""The types of the values in a configuration, and the base classes of its sections."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, AllowInfNan, BaseModel, BeforeValidator, ConfigDict, Field

#: The message for a number that is infinite or not a number.
NOT_FINITE = "Input should be a finite number"


def _refuse_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(describe_boolean(value))
    return value


def describe_boolean(value: bool) -> str:
    """Return the message for a boolean where a number is expected."""
    return f"Input should be a number, not {str(value).lower()}, as YAML also reads {'yes and on' if value else 'no and off'}"


#: A number of a configuration. Strings are read as numbers (YAML reads 1e-4 as a string), booleans are not.
Integer = Annotated[int, BeforeValidator(_refuse_boolean)]
Number = Annotated[float, BeforeValidator(_refuse_boolean), AllowInfNan(False)]
#: A seed, in the range of NumPy's.
Seed = Annotated[Integer, Field(ge=0, lt=2**32)]


def _check_distinct(value: list[int]) -> list[int]:
    if len(set(value)) != len(value):
        raise ValueError("duplicate seed")
    return value


#: The seeds of a recipe, each for a run of its own.
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(_check_distinct)]


class ConfigSection(BaseModel):
    """A section of a configuration; immutable, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseConfig(ConfigSection):
    """A whole configuration, as in a YAML file."""

    def to_yaml(self) -> str:
        """Return the resolved configuration as YAML, as it is saved with the run."""
        return yaml.safe_dump(self.model_dump(mode="json"), allow_unicode=True, sort_keys=False)


def wrap_single(value: Any) -> Any:
    """Return a single name or section as a list of it, and anything else unchanged."""
    return [value] if isinstance(value, str | dict | ConfigSection) else value


Share = Annotated[Number, Field(gt=0, lt=1)]
# An empty name would be that of the working folder.
File = Annotated[str, Field(min_length=1)]
#: Files by name; a single one may stand without a list.
Files = Annotated[list[File], BeforeValidator(wrap_single)]


def non_finite_values(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers in a value that are infinite or not a number, each with its dotted key."""
    if isinstance(value, float) and not math.isfinite(value):
        yield key, value
    elif isinstance(value, (dict, list)):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from non_finite_values(item, f"{key}.{name}" if key else str(name))
