"""Names and ids."""

import pytest

from control_plane.names import checked_name, derived_name, is_id, new_id


def test_ids_are_ids_and_differ():
    made = {new_id("nd") for _ in range(100)}
    assert len(made) == 100
    assert all(is_id(one) and len(one) == 23 for one in made)


@pytest.mark.parametrize("name", ["a", "vm-1", "0", "x" * 63])
def test_names(name: str):
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "a.b", "-a", "a-", "x" * 64, "ä", "a\n", "a b", "nd-" + "a" * 20, "a_b"])
def test_no_names(name: str):
    with pytest.raises(ValueError, match="must"):
        checked_name(name)


@pytest.mark.parametrize("wanted", [None, "", "vm-1", "x" * 63, "VM 1!", "--", "a" * 52 + "-" * 11])
def test_derived_names_are_names(wanted: str | None):
    assert checked_name(derived_name(wanted, "0a1b2c3d")).endswith("-0a1b2c3d")
