"""Filtering: the conditions that a request puts on fields, and whether an entity meets them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sync_pipeline.sandbox import graph_errors as errors
from sync_pipeline.sandbox.entities import EFFECTIVE_STATUSES
from sync_pipeline.sandbox.exchange import Call
from sync_pipeline.sandbox.graph_errors import RefusedError
from sync_pipeline.sandbox.graph_parameters import read_json

Item = TypeVar("Item")

# With a list of values, with two numbers, and with one value.
_OF_LISTS: Mapping[str, Callable[[Any, Any], bool]] = {
    "IN": lambda found, wanted: str(found) in wanted,
    "NOT_IN": lambda found, wanted: str(found) not in wanted,
}
_OF_RANGES: Mapping[str, Callable[[Any, Any], bool]] = {
    "IN_RANGE": lambda found, wanted: _number(wanted[0]) <= _number(found) <= _number(wanted[1]),
    "NOT_IN_RANGE": lambda found, wanted: not _number(wanted[0]) <= _number(found) <= _number(wanted[1]),
}
_OF_VALUES: Mapping[str, Callable[[Any, Any], bool]] = {
    "EQUAL": lambda found, wanted: str(found) == wanted,
    "NOT_EQUAL": lambda found, wanted: str(found) != wanted,
    "GREATER_THAN": lambda found, wanted: _number(found) > _number(wanted),
    "GREATER_THAN_OR_EQUAL": lambda found, wanted: _number(found) >= _number(wanted),
    "LESS_THAN": lambda found, wanted: _number(found) < _number(wanted),
    "LESS_THAN_OR_EQUAL": lambda found, wanted: _number(found) <= _number(wanted),
    "CONTAIN": lambda found, wanted: wanted.casefold() in str(found).casefold(),
    "NOT_CONTAIN": lambda found, wanted: wanted.casefold() not in str(found).casefold(),
    "STARTS_WITH": lambda found, wanted: str(found).casefold().startswith(wanted.casefold()),
    "ENDS_WITH": lambda found, wanted: str(found).casefold().endswith(wanted.casefold()),
}
OPERATORS = {**_OF_LISTS, **_OF_RANGES, **_OF_VALUES}


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on a field; `wanted` is one text, two of them or a set, as the operator takes it."""

    field: str
    operator: str
    wanted: str | tuple[str, ...] | frozenset[str]

    def met_by(self, found: Any) -> bool:
        """Return whether a field's value meets the condition; an absent value meets none."""
        return found is not None and OPERATORS[self.operator](found, self.wanted)

    def narrow(self, nodes: Iterable[Item], column: Callable[[Item], Any]) -> list[Item]:
        """Return the nodes whose column meets the condition."""
        test, wanted = OPERATORS[self.operator], self.wanted
        return [node for node in nodes if (found := column(node)) is not None and test(found, wanted)]


def read_conditions(call: Call) -> tuple[Condition, ...]:
    """Read the conditions of a request's `filtering`. Effective statuses must be among the twelve."""
    given = read_json(call.first("filtering"), "filtering") if call.first("filtering") else []
    return tuple(_condition(entry) for entry in (given if isinstance(given, list) else [given]))


def read_statuses(values: object) -> tuple[str, ...]:
    """Check a list of effective statuses, each of which must be among the twelve."""
    if not isinstance(values, list) or not {str(value) for value in values} <= set(EFFECTIVE_STATUSES):
        raise RefusedError(errors.bad_parameter(f"effective_status must be among {', '.join(EFFECTIVE_STATUSES)}"))
    return tuple(values)


def _condition(entry: object) -> Condition:
    if not isinstance(entry, dict) or not {"field", "operator", "value"} <= entry.keys():
        raise RefusedError(errors.bad_parameter("filtering must be a list of {field, operator, value}"))
    name, operator, value = str(entry["field"]), str(entry["operator"]), entry["value"]
    if operator not in OPERATORS:
        raise RefusedError(
            errors.bad_parameter(f"filtering: operator must be one of the following values: {', '.join(OPERATORS)}")
        )
    values = value if isinstance(value, list) else [value]
    takes_list = operator not in _OF_VALUES
    if takes_list != isinstance(value, list) or (operator in _OF_RANGES and len(values) != 2):
        raise RefusedError(errors.bad_parameter(f"filtering: operator {operator} does not take this value of {name}"))
    if name.rpartition(".")[2] == "effective_status":
        read_statuses(values)
    texts = tuple(str(one) for one in values)
    if operator in _OF_LISTS:
        return Condition(name, operator, frozenset(texts))
    return Condition(name, operator, texts if operator in _OF_RANGES else texts[0])


def _number(found: Any) -> float:
    try:
        return float(found)
    except (TypeError, ValueError):
        raise RefusedError(errors.bad_parameter(f"filtering: {found} is not a number")) from None
