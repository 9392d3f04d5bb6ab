from node_agent.rules.environment import CODE_CHOOSING, first_matched, first_not_granted, first_unmatched


def test_a_pattern_means_every_name_that_begins_so():
    assert first_unmatched({"APP_A", "APP_", "LANG"}, ("APP_*", "LANG")) is None
    assert first_unmatched({"APP", "LANG"}, ("APP_*", "LANG")) == "APP"
    assert first_matched({"LANG", "LD_PRELOAD"}, ("LD_*",)) == "LD_PRELOAD"
    assert first_matched({"XLD_PRELOAD", "ld_preload"}, ("LD_*",)) is None


def test_what_chooses_code_is_granted_by_its_whole_name_only():
    more = ("TAR_OPTIONS", "RSYNC_RSH", "MAKEFLAGS", "VIMINIT", "KUBECONFIG", "AWS_CONFIG_FILE", "ANSIBLE_CONFIG")
    for name in (*more, *(one.replace("*", "X") for one in CODE_CHOOSING)):
        assert first_not_granted({name}, ("*", f"{name[:1]}*", f"{name}*")) == name
        assert first_not_granted({name}, (name,)) is None


def test_names_that_are_no_names_are_granted_by_nothing():
    assert first_not_granted({"BASH_FUNC_x%%"}, ("BASH_FUNC_*",)) == "BASH_FUNC_x%%"
    assert first_not_granted({"A\nLD_PRELOAD"}, ("B*",)) == "A\nLD_PRELOAD"
