"""What operators install: the example settings are the defaults that they say they are."""

import tomllib
from pathlib import Path

import pytest

from node_agent.settings import AgentSettings

EXAMPLE = Path(__file__).parents[2] / "deploy" / "node-agent" / "node-agent.toml"
SHOWN = tomllib.loads(EXAMPLE.read_text())

WITHOUT_DEFAULT = {"state_directory", "control_plane", "bootstrap"}
NOT_DEFAULT = {("policy", "file")}
COMMENTED = {("secrets", "directory"), ("proxy", "url")}


@pytest.mark.parametrize("name", sorted(AgentSettings.model_fields.keys() - WITHOUT_DEFAULT))
def test_the_example_states_every_default(name: str) -> None:
    default = AgentSettings.model_fields[name].default
    if not hasattr(default, "model_dump"):
        assert SHOWN[name] == default
        return
    stated = {(name, key): value for key, value in SHOWN.get(name, {}).items()}
    defaults = {(name, key): value for key, value in default.model_dump().items() if (name, key) not in COMMENTED}
    assert stated.keys() == defaults.keys()
    assert {key: stated[key] for key in stated.keys() - NOT_DEFAULT} == {
        key: defaults[key] for key in defaults.keys() - NOT_DEFAULT
    }
