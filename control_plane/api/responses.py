"""Responses: JSON documents, and the one form that every refusal has."""

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from control_plane.errors import ApiError, ErrorCode


def json_response(document: Mapping[str, Any], status: int = 200) -> web.Response:
    """Return a JSON response; what a credential may be in is never to be cached."""
    return json_body_response(json_body(document), status)


def json_body(document: Mapping[str, Any]) -> bytes:
    """Return a document as it is sent."""
    return json.dumps(document, separators=(",", ":")).encode()


def json_body_response(body: bytes, status: int = 200) -> web.Response:
    """Return a JSON response with a body that was made before."""
    headers = {"Cache-Control": "no-store"}
    return web.Response(status=status, body=body, content_type="application/json", charset="utf-8", headers=headers)


def error_response(error: ApiError) -> web.Response:
    """Return the response for a refusal."""
    document: dict[str, Any] = {"error_code": error.code.symbol, "message": error.message}
    if error.details is not None:
        document["details"] = list(error.details)
    response = json_response(document, error.code.status)
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    if error.code is ErrorCode.UNAUTHENTICATED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="trunkline"'
    return response
