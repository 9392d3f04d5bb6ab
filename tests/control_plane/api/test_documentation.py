"""docs/api.md names every route and every error code, and no others."""

import re
from pathlib import Path

from control_plane.errors import ErrorCode
from tests.support.control_planes import RunningControlPlane

DOCUMENT = Path(__file__).parents[3] / "docs" / "api.md"


async def test_routes(plane: RunningControlPlane):
    served = sorted(f"{route.method} {route.path}" for route in plane.control_plane.routes)
    documented = sorted(
        re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) /[^`]+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    )
    assert documented == served


def test_error_codes():
    documented = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted((str(code.status), code.symbol) for code in ErrorCode)
