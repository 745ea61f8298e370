"""Rules in place of MONAI's transforms, in what a bundle builds."""

from __future__ import annotations

from monai.transforms import AsDiscreted, Compose, FillHolesd, KeepLargestConnectedComponentd

from volseg.postprocessing import FillHoles, KeepLargest, PostprocessingRules
from volseg.postprocessing.transforms import without_rules


class Louder(KeepLargestConnectedComponentd):
    """Somebody's own transform, which may do anything."""


def test_the_last_transforms_become_rules_and_the_others_stay() -> None:
    discrete, largest = AsDiscreted("pred", argmax=True), KeepLargestConnectedComponentd("pred", applied_labels=[2])
    rest, rules = without_rules(Compose([largest, discrete, largest, FillHolesd("pred", connectivity=1)]), (2,))
    assert list(rest.transforms) == [largest, discrete]
    assert rules == PostprocessingRules((KeepLargest(labels=(2,)), FillHoles(labels=(2,))))


def test_a_transform_of_another_make_is_run() -> None:
    steps = [AsDiscreted("pred", argmax=True), Louder("pred")]
    rest, rules = without_rules(Compose(steps), (1, 2))
    assert (list(rest.transforms), rules) == (steps, PostprocessingRules())


def test_what_is_no_list_of_transforms_stays() -> None:
    def own(item: object) -> object:
        return item

    assert without_rules(own, (1,)) == (own, PostprocessingRules())
