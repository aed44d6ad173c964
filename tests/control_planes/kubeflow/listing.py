"""Lists: filters, order and pages, as the API's `filter`, `sort_by`, `page_size` and `page_token` say."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.control_planes.kubeflow.errors import invalid

DEFAULT_PAGE, LARGEST_PAGE = 20, 200
OPERATIONS = {
    1: "EQUALS",
    2: "NOT_EQUALS",
    3: "GREATER_THAN",
    5: "GREATER_THAN_EQUALS",
    6: "LESS_THAN",
    7: "LESS_THAN_EQUALS",
    8: "IN",
    9: "IS_SUBSTRING",
}
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "EQUALS": lambda field, value: field == value,
    "NOT_EQUALS": lambda field, value: field != value,
    "GREATER_THAN": lambda field, value: field > value,
    "GREATER_THAN_EQUALS": lambda field, value: field >= value,
    "LESS_THAN": lambda field, value: field < value,
    "LESS_THAN_EQUALS": lambda field, value: field <= value,
    "IN": lambda field, value: field in value,
    "IS_SUBSTRING": lambda field, value: value.lower() in field.lower(),
}
VALUES = ("int_value", "long_value", "string_value", "timestamp_value", "int_values", "long_values", "string_values")
# The older spelling of the same fields.
_CAMEL = {re.sub("_(.)", lambda match: match[1].upper(), name): name for name in VALUES}

Document = dict[str, Any]


def page(
    kind: str, documents: Sequence[Document], key: str, fields: Mapping[str, str], query: Mapping[str, str]
) -> tuple[list[Document], int, str]:
    """One page of a list.

    Args:
        kind: What is listed, as the API server calls it: `Run`.
        documents: All there are.
        key: The field that tells them apart.
        fields: The field of a document by the API's name for it.
        query: The request's query.

    Returns:
        The page, how many there are in all, and the token of the next page, empty where there is none.

    Raises:
        ApiError: the query cannot be.
    """
    size = _size(query.get("page_size", ""))
    token = _token(query["page_token"]) if query.get("page_token") else {}
    criteria = {"sort_by": query.get("sort_by", ""), "filter": query.get("filter", "")}
    if token:
        if any(value and value != token[name] for name, value in criteria.items()):
            raise invalid(
                "page token does not match the supplied sort by and/or filtering criteria. Either specify the same "
                "criteria or leave the latter empty if page token is specified"
            )
        criteria = {name: token[name] for name in criteria}
    field, descending = _order(kind, criteria["sort_by"], fields)
    found = [document for document in documents if _matches(document, criteria["filter"], fields)]

    def place(document: Document) -> tuple[Any, Any]:
        return document[field], document[key]

    found.sort(key=place, reverse=descending)
    rest = found
    if token:
        first = tuple(token["next"])
        rest = [item for item in found if (place(item) <= first if descending else place(item) >= first)]
    following = ""
    if len(rest) > size:
        packed = json.dumps({**criteria, "next": place(rest[size])})
        following = base64.b64encode(packed.encode()).decode()
    return rest[:size], len(found), following


def _size(text: str) -> int:
    try:
        size = int(text or 0)
    except ValueError as error:
        raise invalid(f'type mismatch, parameter: page_size, error: strconv.ParseInt: parsing "{text}"') from error
    if size < 0:
        raise invalid(f"The page size should be greater than 0. Got {size}")
    return min(size or DEFAULT_PAGE, LARGEST_PAGE)


def _token(text: str) -> dict[str, Any]:
    try:
        token: dict[str, Any] = json.loads(base64.b64decode(text, validate=True))
        return {"sort_by": token["sort_by"], "filter": token["filter"], "next": token["next"]}
    except (ValueError, KeyError, TypeError) as error:
        raise invalid("Invalid page token") from error


def _order(kind: str, text: str, fields: Mapping[str, str]) -> tuple[str, bool]:
    words = text.lower().split()
    if len(words) > 2 or (len(words) == 2 and words[1] not in ("asc", "desc")):
        raise invalid(
            f'Received invalid sort by format "{text}". Supported format: "field_name", "field_name desc", or '
            '"field_name asc"'
        )
    name = words[0] if words else "created_at"
    if name not in fields:
        raise invalid(f'Invalid sorting field: "{name}" on listable type {kind}')
    return fields[name], words[1:] == ["desc"]


def _matches(document: Document, text: str, fields: Mapping[str, str]) -> bool:
    return all(_holds(document, predicate, fields) for predicate in _predicates(text))


def _predicates(text: str) -> list[dict[str, Any]]:
    if not text:
        return []
    try:
        return list(json.loads(text).get("predicates", []))
    except (ValueError, AttributeError) as error:
        raise invalid(f"failed to parse valid filter from {text}") from error


def _holds(document: Document, predicate: Mapping[str, Any], fields: Mapping[str, str]) -> bool:
    written = {_CAMEL.get(name, name): value for name, value in predicate.items()}
    operation = written.get("operation")
    operation = OPERATIONS.get(operation, "OPERATION_UNSPECIFIED") if isinstance(operation, int) else operation
    if operation not in COMPARE:
        raise invalid(f"invalid predicate operation: {operation}")
    key = written.get("key", "")
    if key not in fields:
        raise invalid(f'no support for filtering on unrecognized field "{key}"')
    name = next((name for name in VALUES if name in written), None)
    if name is None:
        raise invalid("unsupported value type <nil>")
    value = written[name]
    if name.endswith("_values"):
        value = value["values"] if isinstance(value, dict) else value
    if operation == "IN" and not name.endswith("_values"):
        raise invalid(f"cannot use IN operator with scalar type {type(value).__name__}")
    if operation != "IN" and name.endswith("_values"):
        raise invalid(f"cannot use scalar operator {operation} on array type {type(value).__name__}")
    if name == "timestamp_value":
        value = datetime.fromisoformat(value).timestamp()
    elif name.startswith(("long", "int")):
        value = [int(item) for item in value] if isinstance(value, list) else int(value)
    return COMPARE[operation](document[fields[key]], value)
