"""Each verb of the command line is one Python function of the same name."""

from __future__ import annotations

import pytest

import volseg
from volseg.api import verbs
from volseg.cli.main import VERBS


@pytest.mark.parametrize("name", VERBS)
def test_each_verb_of_the_command_line_is_a_function(name: str) -> None:
    assert name in volseg.__all__
    function = getattr(volseg, name)
    assert callable(function)
    assert function.__name__ == name
    assert function.__doc__
    assert function is getattr(verbs, name)
