"""Lists: `filter`, `orderBy`, `pageSize`, `pageToken` and `readMask`, as Google's AIPs 158 and 160 say.

Of filters: comparisons that are joined by AND, on the fields that the services name.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.control_planes.kubeflow.state import Document
from tests.control_planes.vertex.errors import invalid

LARGEST_PAGE = 100
_COMPARISON = re.compile(r'(?P<field>[A-Za-z_.][\w.-]*)\s*(?P<operator>!=|=|:)\s*("(?P<quoted>[^"]*)"|(?P<bare>\S+))')


def page(
    kind: str, found: Sequence[Document], query: Mapping[str, str], fields: Mapping[str, Callable[[Document], Any]]
) -> Document:
    """One page of a list.

    Args:
        kind: The answer's field: `pipelineJobs`.
        found: All there are, as answers.
        query: The request's query.
        fields: How each field that a filter may name is read; `labels` stands for each label.

    Raises:
        GoogleError: the query cannot be.
    """
    kept = [item for item in found if _holds(item, query.get("filter", ""), fields)]
    field, _, direction = query.get("orderBy", "create_time desc").partition(" ")
    if field not in ("create_time", "createTime") or direction not in ("", "desc"):
        raise invalid(f"Invalid order_by: {query['orderBy']}")
    kept.sort(key=lambda item: (item["createTime"], item["name"]), reverse=direction == "desc")
    size, token = query.get("pageSize") or str(LARGEST_PAGE), query.get("pageToken") or "0"
    if not size.isdigit() or not token.isdigit():
        raise invalid("Invalid page_size or page_token")
    begin, end = int(token), int(token) + min(int(size), LARGEST_PAGE)
    answer: Document = {kind: [_masked(item, query.get("readMask", "")) for item in kept[begin:end]]}
    return {**answer, "nextPageToken": str(end)} if end < len(kept) else answer


def _masked(item: Document, mask: str) -> Document:
    wanted = {re.sub("_(.)", lambda match: match[1].upper(), name) for name in mask.split(",")}
    return {name: value for name, value in item.items() if name in wanted} if mask else item


def _holds(item: Document, text: str, fields: Mapping[str, Callable[[Document], Any]]) -> bool:
    return all(_compares(item, part.strip(), fields) for part in re.split(r"\s+AND\s+", text) if part.strip())


def _compares(item: Document, part: str, fields: Mapping[str, Callable[[Document], Any]]) -> bool:
    found = _COMPARISON.fullmatch(part)
    if found is None:
        raise invalid(f"Invalid filter: {part}")
    value = found["quoted"] if found["quoted"] is not None else found["bare"]
    name, _, label = found["field"].partition(".")
    if name not in fields or (name == "labels") != bool(label):
        raise invalid(f"Invalid field in filter: {found['field']}")
    there = fields[name](item)
    if label:
        there = there.get(label)
    if found["operator"] == ":":
        return fnmatch.fnmatchcase(str(there or ""), value)
    return (there == value) == (found["operator"] == "=")
