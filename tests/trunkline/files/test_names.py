"""Names that stay where they are put, and those that do not."""

import os

import pytest

from trunkline.files.names import NameRefused, check_name, is_partial, partial_name, parts_of, shown


@pytest.mark.parametrize(
    "path",
    ["/etc", "..", "a/../b", "a//b", "a/", "./a", "a/.", "a\0b", "../../.ssh/authorized_keys", "a/" * 200 + "b",
     "n" * 256, "x/" + "n" * 4096, ".a.trunkline-part", "sub/.a.trunkline-part"],
)  # fmt: skip
def test_what_could_lead_out_or_be_taken_for_a_partial_file_is_refused(path: str) -> None:
    with pytest.raises(NameRefused):
        parts_of(path)


def test_ordinary_names_pass_as_they_are() -> None:
    assert parts_of("") == ()
    assert parts_of("a/b c/…/\udcff\n") == ("a", "b c", "…", "\udcff\n")
    check_name("..a")
    check_name("a.trunkline-part")


@pytest.mark.parametrize("name", ["a", "n" * 255, "\udcff", "ü" * 127])
def test_the_partial_name_is_one_that_the_kernel_takes_and_nobody_can_ask_for(name: str) -> None:
    partial = partial_name(name)
    assert len(os.fsencode(partial)) <= 255
    assert is_partial(partial)
    assert partial_name(name) == partial
    with pytest.raises(NameRefused):
        check_name(partial)


def test_two_long_names_have_two_partial_names() -> None:
    assert partial_name("n" * 254 + "a") != partial_name("n" * 254 + "b")


def test_what_is_shown_steers_no_terminal() -> None:
    assert shown("a\x1b[2Jb\n\udcff\u202e\U000e0001") == "a\\x1b[2Jb\\x0a\\xff\\u202e\\U000e0001"
    assert shown("Grüße 漢字") == "Grüße 漢字"
