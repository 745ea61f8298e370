"""What can be wrong with a case: one line each, and one line for what many cases have in common."""

from __future__ import annotations

from volseg.dataset.case import SHOWN_CASES, Fault, summed_up


def test_a_fault_is_one_line_whatever_a_file_is_called() -> None:
    fault = Fault("code", "ca\nse", "a\x1b[2Jb\udc80c")
    assert str(fault) == "ca\\nse: a\\x1b[2Jb\\udc80c"
    str(fault).encode("utf-8")
    assert str(Fault("code", "", "all")) == "all"


def test_a_fault_names_its_case_once() -> None:
    assert str(Fault("code", "a", "the mask is empty.")) == "a: the mask is empty."
    assert str(Fault("code", "a", "a: the mask is empty.")) == "a: the mask is empty."
    assert str(Fault("code", "a", "a has no mask.")) == "a has no mask."
    assert str(Fault("code", "a", "ab is another.")) == "a: ab is another."


def test_of_files_that_many_cases_lack_the_first_are_shown_and_the_rest_counted() -> None:
    names = [f"c{number}" for number in range(SHOWN_CASES + 4)]
    missing = [Fault("missing-file", name, "is not there.") for name in names]
    other = [Fault("empty-mask", name, "is empty.") for name in names]
    whole = Fault("missing-file", "", "The folder is not there.")
    warned = Fault("missing-file", "w", "is not there.", is_error=False)
    shown = summed_up([*missing[:5], whole, *other, warned, *missing[5:]])
    assert shown[:-1] == (*missing[:SHOWN_CASES], whole, *other, warned)
    assert (shown[-1].code, shown[-1].case, shown[-1].is_error) == ("missing-file", "", True)
    assert shown[-1].message.startswith("4 more such faults, of c3, c4, c5")
    assert summed_up(missing[:SHOWN_CASES]) == tuple(missing[:SHOWN_CASES])
