import pytest

from control_plane.secrets.references import SecretName, names_in


@pytest.mark.parametrize("text", ["db/password", "a@b.c/x_y-1.pem", "0/0"])
def test_names(text: str) -> None:
    assert str(SecretName.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "db", "db/", "/x", "a/b/c", "db/../x", "db /x", "db/x\n", "-a/b", "db/" + "x" * 129]
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match="SCOPE/KEY"):
        SecretName.parse(text)


def test_each_secret_of_a_submission_once() -> None:
    references = {"environment": {"A": "s/b", "B": "s/a"}, "files": {"f": "s/a"}}
    assert names_in(references) == [SecretName("s", "a"), SecretName("s", "b")]
    assert names_in(None) == []
