import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from node_agent.rules.parameters import Parameter, ParameterRefused

ADAPTER = TypeAdapter(Parameter)


def parameter(**fields):
    return ADAPTER.validate_python(fields)


SERVICE = parameter(type="string", pattern="[a-z][a-z0-9@.-]*|-never", max_length=8)
COLOUR = parameter(type="string", enum=["red", "green"])
DASHED = parameter(type="string", pattern=".*", allow_leading_dash=True)
COUNT = parameter(type="integer", min=1, max=100)
OFFSET = parameter(type="integer", min=-5, max=5)
TRUTH = parameter(type="boolean")
FLAG = parameter(type="boolean", flag="--force")
LOG = parameter(type="path", under=["/var/log", "/srv/app"])


def text(one, value, real=None):
    return one.text(value, real or {})


@pytest.mark.parametrize(
    ("one", "value", "expected"),
    [
        (SERVICE, "nginx", "nginx"),
        (COLOUR, "red", "red"),
        (DASHED, "-x; $(id)", "-x; $(id)"),
        (DASHED, "", ""),
        (COUNT, 7, "7"),
        (COUNT, "7", "7"),
        (OFFSET, -5, "-5"),
        (OFFSET, "-5", "-5"),
        (OFFSET, "0", "0"),
        (TRUTH, True, "true"),
        (TRUTH, "false", "false"),
        (FLAG, "true", "--force"),
        (FLAG, False, None),
    ],
)
def test_what_is_allowed_becomes_one_text(one, value, expected):
    assert text(one, value) == expected


@pytest.mark.parametrize(
    ("one", "value"),
    [
        *[(SERVICE, bad) for bad in ("", "Nginx", "nginx\n", "\nnginx", "a\nb", "a b", "toolongname", "-never", "a\0")],
        *[(SERVICE, bad) for bad in (5, True)],
        *[(COLOUR, bad) for bad in ("blue", "RED", "red ", "-blue", "", 1)],
        *[(DASHED, bad) for bad in ("a\nb", "a\0b", "x" * 257, 1, False)],
        *[(COUNT, bad) for bad in (0, 101, -1, True, "07", "+7", "7 ", "0x7", "1e1", "", "-", "-0", "٧", "9" * 17)],
        *[(OFFSET, bad) for bad in (-6, "--5", "-05", "-0")],
        *[(TRUTH, bad) for bad in ("True", "1", 1, 0, "", "yes")],
        *[(LOG, bad) for bad in (
            "", "x", "/", "/var/log/", "/var/logs/x", "/var/log/../x", "/var/log/./x", "/var/log//x", "//var/log/x",
            "/var/log/x/", "/etc/passwd", "/var/log/a\nb", "/var/log/a\0", "/var/log/a\x7f", "~/x", "-/var/log/x",
            "/var/log/" + "x" * 2000, 5, True,
        )],
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_refused_and_not_repeated(one, value):
    with pytest.raises(ParameterRefused) as refused:
        text(one, value, {str(value): "/var/log/elsewhere", "/var/log": "/var/log", "/srv/app": "/srv/app"})
    assert len(str(value)) < 4 or str(value) not in str(refused.value)


def test_the_directory_itself_is_not_beneath_it():
    with pytest.raises(ParameterRefused):
        text(LOG, "/var/log", {"/var/log": "/var/log"})


def test_a_path_is_judged_and_given_as_where_it_leads():
    bases = {"/var/log": "/var/log", "/srv/app": "/data/app"}
    assert text(LOG, "/var/log/x", bases | {"/var/log/x": "/var/log/y"}) == "/var/log/y"
    assert text(LOG, "/srv/app/x", bases | {"/srv/app/x": "/data/app/x"}) == "/data/app/x"
    for leads_to in ("/etc/shadow", "/var/log", "/var/logs", "/srv/app/x"):
        with pytest.raises(ParameterRefused, match="symbolic link"):
            text(LOG, "/srv/app/x", bases | {"/srv/app/x": leads_to})
    with pytest.raises(ParameterRefused):
        text(LOG, "/var/log/x", bases)


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "string"},
        {"type": "string", "enum": ["a"], "pattern": "a"},
        {"type": "string", "enum": []},
        {"type": "string", "pattern": "("},
        {"type": "string", "pattern": "a)|(b"},
        {"type": "string", "pattern": "(?=a)a"},
        {"type": "string", "pattern": r"(a)\1"},
        {"type": "string", "enum": ["a"], "default": "b"},
        {"type": "string", "enum": ["-a"], "default": "-a"},
        {"type": "string", "enum": ["a"], "max_length": 5000},
        {"type": "integer", "min": 2, "max": 1},
        {"type": "integer", "default": -1},
        {"type": "integer", "default": "1"},
        {"type": "boolean", "flag": ""},
        {"type": "path"},
        {"type": "path", "under": []},
        {"type": "path", "under": ["var/log"]},
        {"type": "path", "under": ["/var/log/"]},
        {"type": "path", "under": ["/var/log"], "default": "/etc/passwd"},
        {"type": "path", "under": ["/var/log"], "default": "/var/log/../x"},
        {"type": "shell"},
        {"enum": ["a"]},
        {"type": "boolean", "pattern": "x"},
    ],
)
def test_what_an_owner_cannot_mean(fields):
    with pytest.raises(ValidationError):
        parameter(**fields)


def test_a_pattern_takes_linear_time():
    hard = parameter(type="string", pattern="(a|a)*(a*)*b", max_length=4096)
    with pytest.raises(ParameterRefused):
        text(hard, "a" * 4096)


@given(st.text(max_size=40) | st.integers() | st.booleans())
def test_no_value_becomes_an_option_unasked(value):
    for one in (SERVICE, COLOUR, COUNT, TRUTH, parameter(type="string", pattern="(?s).*")):
        try:
            shown = text(one, value)
        except ParameterRefused:
            continue
        assert not shown.startswith("-")
        assert "\0" not in shown
