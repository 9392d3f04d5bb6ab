"""Whose evidence is believed: mistakes in the settings are told together, each with its key."""

from typing import Any

import pytest
from pydantic import ValidationError

from control_plane.attestation_settings import GcpSettings

GIVEN: dict[str, Any] = {"audience": "https://trunkline.test", "projects": ["prod-one"]}


def test_the_keys_of_an_emulated_issuer_are_its_own():
    assert GcpSettings.model_validate(GIVEN).issuer_url is None
    with pytest.raises(ValidationError, match="issuer_url and keys_url come together"):
        GcpSettings.model_validate(GIVEN | {"issuer_url": "https://issuer.test"})


def test_what_is_wrong_between_keys_is_told_beside_what_is_wrong_with_one():
    with pytest.raises(ValidationError) as refused:
        GcpSettings.model_validate(GIVEN | {"projects": [], "keys_url": "https://issuer.test/keys"})
    assert {problem["loc"] for problem in refused.value.errors()} == {(), ("projects",)}
