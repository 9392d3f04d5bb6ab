import os
import pwd
import resource

import pytest

from node_agent.commands.accounts import Account, LookupFailed, NoSuchAccount, find_account, find_uid

TOO_LONG = "/" + "x" * 300
"""A path whose look-up fails with what is no absence, as that of a home on which its user has mounted something."""


@pytest.fixture
def home(monkeypatch, tmp_path):
    """Return what gives the user `guest` a home directory; at first it is `tmp_path`."""

    def give(path):
        entry = pwd.struct_passwd(("guest", "x", 4711, 4712, "", path, "/bin/sh"))
        monkeypatch.setattr(pwd, "getpwnam", {"guest": entry}.__getitem__)

    give(str(tmp_path))
    return give


def test_a_user_is_found_with_groups_and_home(home, tmp_path):
    assert find_account("guest") == Account("guest", 4711, 4712, (4712,), str(tmp_path), switched=True)
    assert find_uid("guest") == ("guest", 4711)


def test_without_a_name_it_is_the_agents_own_user():
    account = find_account(None)
    assert (account.uid, account.switched) == (os.geteuid(), False)
    assert find_uid(None) == (account.name, account.uid)


@pytest.mark.parametrize("path", ["/no/such/directory", "/dev/null", "", TOO_LONG])
def test_a_home_that_is_not_there_or_cannot_be_looked_at_is_the_root(home, path):
    home(path)
    assert find_account("guest").home == "/"


def test_a_user_that_there_is_not_is_refused(home):
    for find in (find_account, find_uid):
        with pytest.raises(NoSuchAccount, match="no user 'nobody-here'"):
            find("nobody-here")


@pytest.fixture
def without_descriptors():
    """Nothing can be opened in this process."""
    bounds = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, bounds[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, bounds)


def test_without_descriptors_nobody_is_taken_for_one_whom_there_is_not(without_descriptors):
    for find in (find_account, find_uid):
        with pytest.raises(LookupFailed, match="cannot be looked up: Too many open files"):
            find("nobody-here")


def test_without_descriptors_nobody_is_without_his_groups(home, without_descriptors):
    with pytest.raises(LookupFailed):
        find_account("guest")
