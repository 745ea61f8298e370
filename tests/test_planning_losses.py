"""What a person may write for a loss."""

from __future__ import annotations

import pytest

from volseg.errors import UsageError
from volseg.planning.losses import LOSSES, parse_loss


@pytest.mark.parametrize(
    ("text", "name", "terms"),
    [
        ("dice-ce", "dice-ce", [(1, "dice-ce")]),
        ("dice+0.5*ce", "dice+0.5*ce", [(1, "dice"), (0.5, "ce")]),
        (" 2 * dice + 0.25*focal ", "2*dice+0.25*focal", [(2, "dice"), (0.25, "focal")]),
        ("dice-topk+0.01*boundary+1.0*cldice", "dice-topk+0.01*boundary+cldice",
         [(1, "dice-topk"), (0.01, "boundary"), (1, "cldice")]),
    ],
)  # fmt: skip
def test_a_sum_of_terms(text: str, name: str, terms: list[tuple[float, str]]) -> None:
    loss = parse_loss(text)
    assert [(weight, term.name) for weight, term in loss.terms] == terms
    assert loss.name == name
    assert parse_loss(loss.name) == loss


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a name or a sum"), ("dice+", "a name or a sum"), ("+dice", "a name or a sum"),
        ("dice-0.5*ce", "a name or a sum"), ("-1*dice", "a name or a sum"), ("1e3*dice", "a name or a sum"),
        ("nan*dice", "a name or a sum"), ("dice*0.5", "a name or a sum"), ("0.5dice", "a name or a sum"),
        ("dice+(ce+focal)", "a name or a sum"), ("DICE", "a name or a sum"), ("dice ce", "a name or a sum"),
        ("0*dice", "above 0"), ("0.0000001*dice", "a name or a sum"), ("1001*dice", "above 0"),
        ("dice+dice", "each once"), ("dice+ce+focal+tversky+boundary", "up to 4 terms"),
        ("dise", "There is no loss 'dise'. Choose one of dice-ce,"),
        ("boundary", "dice-ce[+]boundary"), ("0.5*cldice+boundary", "cldice and boundary can't train alone"),
    ],
)  # fmt: skip
def test_what_is_no_sum_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_loss(text)


@pytest.mark.parametrize("name", LOSSES)
def test_regions_are_never_taken_for_classes(name: str) -> None:
    """No target of regions holds a word of classes: the softmax, one-hot labels, a background to leave out."""
    described = str(LOSSES[name]().component(sigmoid=True))
    assert "softmax" not in described
    assert "to_onehot_y" not in described
    assert "'include_background': False" not in described
    assert "DiceCELoss" not in described
