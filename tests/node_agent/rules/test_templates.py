import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.rules.templates import check_template, filled, places_of


def test_a_place_is_an_element_or_part_of_one():
    template = ["tool", "{name}", "--at={host}:{port}", "{{literally}}", "{flag}"]
    assert check_template(template) == {"name", "host", "port", "flag"}
    texts = {"name": "a b;c", "host": "h", "port": "1", "flag": None}
    assert filled(template, texts) == ["tool", "a b;c", "--at=h:1", "{literally}"]


@given(st.text())
def test_whatever_is_put_in_stays_where_it_is(value):
    assert filled(["tool", "{a}", "x{a}y", "{a}{a}"], {"a": value}) == ["tool", value, f"x{value}y", value + value]


@pytest.mark.parametrize("element", ["{", "}", "{a", "a}", "{A}", "{a-b}", "{}", "{{a}", "{a}}", "${a b}"])
def test_a_single_brace_is_an_error(element):
    with pytest.raises(ValueError, match="single brace"):
        places_of(element)


@pytest.mark.parametrize(
    "template",
    [
        [""],
        ["{program}"],
        ["/usr/bin/{program}"],
        ["bin/tool"],
        ["./tool"],
        ["sh", "-c", "echo {text}"],
        ["bash", "-cx", "echo {text}"],
        ["sh", "-c", "--", "{text}"],
        ["bash", "-c", "-x", "+e", "{text}"],
        ["bash", "-c", "-o", "errexit", "{text}"],
        ["sh", "-c", "-{text}", "ls"],
        ["/bin/bash", "-ec", "{text}"],
        ["sudo", "-u", "x", "bash", "-lc", "echo {text}"],
        ["su", "postgres", "-c", "psql {text}"],
        ["su", "postgres", "-c{text}"],
        ["su", "postgres", "--command={text}"],
        ["su", "--command", "{text}", "postgres"],
        ["su", "--session-command", "{text}", "postgres"],
        ["runuser", "-u", "postgres", "-lc", "{text}"],
        ["fish", "--init-command={text}", "script"],
    ],
)
def test_what_is_run_is_fixed_and_no_shell_reads_a_parameter(template):
    with pytest.raises(ValueError, match=r"."):
        check_template(template)


def test_a_shell_may_be_given_arguments():
    assert check_template(["sh", "-c", 'echo "$1"', "sh", "{text}"]) == {"text"}
    assert check_template(["sh", "-ec", "--", 'echo "$1"', "sh", "-c", "x", "{text}"]) == {"text"}
    assert check_template(["grep", "-c", "{text}"]) == {"text"}
    assert check_template(["sh", "/opt/report", "-config={text}"]) == {"text"}
    assert check_template(["su", "postgres", "--whitelist-environment={text}"]) == {"text"}
