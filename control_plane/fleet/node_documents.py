"""Documents in which nodes speak of themselves, as far as they can be handed on: a node that lies says anything."""

import json
from typing import Any

from pydantic_core import from_json


def read_node_document(body: bytes) -> dict[str, Any] | None:
    """Return the document, or None if it is none, is nested some 200 deep, or could not be written as JSON again."""
    try:
        document = from_json(body, allow_inf_nan=False)
        json.dumps(document, allow_nan=False)  # 1e999 is read as infinity
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
