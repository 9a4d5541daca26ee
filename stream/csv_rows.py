"""CSV: a line of names, then rows. `jq` reads neither its quotes nor the mark that some editors put before UTF-8; Python does."""

from __future__ import annotations

import csv
import io
from itertools import islice
from typing import Any, NamedTuple

from stream.codec import FIELDS
from stream.fields import likely

_LEAST_COLUMNS = 2
_SIGNS = ",;\t|"
# Of each row an object on a line; an empty cell is no value.
_PYTHON = (
    "import csv, io, json, sys; csv.field_size_limit(1 << 30); "
    'rows = csv.DictReader(io.TextIOWrapper(sys.stdin.buffer, "utf-8-sig", "replace", ""), delimiter="%s"); '
    "[print(json.dumps({k: v for k, v in row.items() if k and v})) for row in rows]"
)


class Rows(NamedTuple):
    """The first rows, and the program that makes lines of JSON of all."""

    columns: list[str]
    records: list[dict[str, Any]]
    python: str


def rows(text: str, most: int) -> Rows | None:
    """What a file that begins so has; None where no column is likely something of an event's, or most rows are of other columns."""
    header = text.partition("\n")[0]
    sign = max(_SIGNS, key=header.count)
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1] or text, newline=""), delimiter=sign)
    try:
        columns = list(reader.fieldnames or [])
        found: list[dict[Any, Any]] = list(islice(reader, most))
    except csv.Error:
        return None
    if len(columns) < _LEAST_COLUMNS or not any(likely([n], f) is not None for n in columns for f in FIELDS):
        return None
    even = sum(None not in row and None not in row.values() for row in found)
    if not even or 2 * even < len(found):
        return None
    records = [{k: v for k, v in row.items() if k and v} for row in found]
    return Rows(columns, records, _PYTHON % sign.replace("\t", "\\t"))
