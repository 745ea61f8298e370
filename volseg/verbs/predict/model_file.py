"""Which model predicts: its bundle, its weights, and what of the options its masks depend on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from volseg.errors import BundleError, UsageError
from volseg.outcomes import sha256_of
from volseg.postprocessing import PostprocessingRules
from volseg.verbs.predict.roi import Around, Roi, RoiMask
from volseg.verbs.predict.window import WindowWishes

if TYPE_CHECKING:
    from volseg.bundle.ensemble import Member
    from volseg.bundle.folder import Bundle
    from volseg.bundle.parser import BundleParser

Precision: TypeAlias = Literal["float32", "bfloat16", "auto"]
NO_RULES = PostprocessingRules()
RULES = "rules"
"""The name of the options' own rules among the checksums."""
ROI = "roi"
"""And of the bundle that finds the part of the image to segment."""


@dataclass(frozen=True)
class ModelFile:
    """Where a model lies and what it was when the run began; small enough to travel to any worker.

    Args:
        bundle_dir: the bundle.
        fold: whose weights; None for the bundle's own.
        folds: of the ensemble that predicts instead; none for a single model.
        device: ``cpu`` or ``cuda``.
        raw: whether the bundle's rules for labels are left out.
        regions: whether each region gets a mask of its own.
        precision: in which the network computes.
        config_sha256: of ``inference.yaml``.
        weights_sha256: of the weights.
        others_sha256: of whatever else of the bundle decides on masks: its metadata, and where it runs code beyond the
            vocabulary all of its files.
        window: what is asked of the sliding window.
        rules: what is done with masks after the bundle's own rules.
        roi: the part of each image that is segmented; None for the whole of it.
    """

    bundle_dir: Path
    fold: int | None
    folds: tuple[int, ...]
    device: str
    raw: bool
    regions: bool
    precision: Literal["float32", "bfloat16"]
    config_sha256: str
    weights_sha256: str
    others_sha256: str
    window: WindowWishes = field(default_factory=WindowWishes)
    rules: PostprocessingRules = NO_RULES
    roi: AnyRoi | None = None

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        fold: int | None,
        device: str,
        *,
        raw: bool,
        regions: bool = False,
        precision: Precision = "auto",
        folds: str | None = None,
        window: WindowWishes | None = None,
        rules: PostprocessingRules = NO_RULES,
        roi: AnyRoi | None = None,
    ) -> ModelFile:
        """Find a bundle's weights.

        Args:
            bundle: the bundle.
            fold: whose weights; None for the bundle's own.
            device: ``cpu`` or ``cuda``.
            raw: whether the bundle's rules for labels are left out.
            regions: whether each region gets a mask of its own.
            precision: ``auto`` takes a bundle of ours in bfloat16 where the device is made for it, as it was validated.
                Networks of others may need float32: they run as they are described.
            folds: of the ensemble that is to predict: ``all``, or numbers such as ``0,2``; None for a single model.
            window: what is asked of the sliding window.
            rules: what is done with masks after the bundle's own rules.
            roi: the part of each image that is segmented; None for the whole of it.

        Raises:
            UsageError: there is no such precision, or what names folds makes no sense.
            TrustError: the bundle would run code that nobody has trusted.
            BundleError: there are none.
            FileError: a file can't be read.
        """
        from volseg.bundle.ensemble import parse_folds, require_members
        from volseg.bundle.parser import BundleParser, require_weights
        from volseg.bundle.trust import code_sha256, require_trust

        if precision not in get_args(Precision):
            raise UsageError(f"--precision {precision}: the network computes in float32 or bfloat16, or auto chooses.")
        verdict = require_trust(bundle)
        members: tuple[Member, ...] = ()
        if folds is not None:
            if fold is not None:
                raise UsageError("--fold names the model of one fold and --folds several. Choose one of them.")
            members = require_members(bundle, parse_folds(folds))
            weights_sha256 = hashlib.sha256(
                "".join(f"{one.fold} {one.sha256}\n" for one in members).encode()
            ).hexdigest()
        else:
            named = verdict.findings and fold is None
            weights = weights_of(bundle, fold, BundleParser(bundle, "inference", {}) if named else None)
            require_weights(weights)
            weights_sha256 = sha256_of(weights)
        config, metadata = (sha256_of(bundle.config_path(name)) for name in ("inference", "metadata"))
        others = code_sha256(verdict) or metadata
        if precision == "auto":
            precision = "float32" if verdict.findings or not _pays(device) else "bfloat16"
        numbers = tuple(one.fold for one in members)
        asked = window or WindowWishes()
        if asked.labels and regions:
            raise UsageError(
                "--labels is for masks of labels; each region has a mask of its own. Leave one of them out."
            )
        return cls(
            bundle.root,
            fold,
            numbers,
            device,
            raw,
            regions,
            precision,
            config,
            weights_sha256,
            others,
            asked,
            rules,
            roi,
        )

    @property
    def named_folds(self) -> str | None:
        """The folds of the ensemble, as a person would name them; None for a single model."""
        return ",".join(map(str, self.folds)) or None

    @property
    def checksums(self) -> dict[str, str]:
        """For the provenance."""
        found = {"configs/inference": self.config_sha256, "weights": self.weights_sha256, "others": self.others_sha256}
        if isinstance(self.roi, RoiBundle):
            found[ROI] = self.roi.model.method
        if self.rules:
            words = json.dumps(self.rules.to_config(), sort_keys=True)
            found[RULES] = hashlib.sha256(words.encode()).hexdigest()
        return found

    @property
    def method(self) -> str:
        """A digest of all that masks depend on beside the image."""
        words = "\n".join((*self.checksums.values(), "raw" if self.raw else "", self.precision))
        words += "\nregions" if self.regions else ""
        words += f"\n{self.window.method}" if self.window.method else ""
        words += f"\nroi {self.roi}" if self.roi else ""
        return hashlib.sha256(words.encode()).hexdigest()

    @property
    def device_words(self) -> str:
        """The device and, where it is not float32, the precision."""
        return self.device if self.precision == "float32" else f"{self.device} {self.precision}"


def weights_of(bundle: Bundle, fold: int | None, foreign: BundleParser | None) -> Path:
    """The weights of a fold or, without one, of the bundle; ``foreign`` is the inference config of a foreign one."""
    from volseg.bundle.serving import weights_path
    from volseg.training.checkpoint import RunFolder

    if fold is None:
        return bundle.model_path if foreign is None else weights_path(foreign)
    best = RunFolder(bundle.runs / f"fold_{fold}").best
    if not best.exists():
        raise BundleError(
            f"{bundle.root} has no model of fold {fold}. Train it with volseg train --fold {fold}.", code="no-weights"
        )
    return best


def _pays(device: str) -> bool:
    """Whether a device is made for bfloat16."""
    import torch

    from volseg.training.autocast import use_bfloat16

    return use_bfloat16(torch.device(device))


@dataclass(frozen=True)
class RoiBundle:
    """What another bundle finds; see ``gathering.roi_of``.

    Args:
        model: of the bundle, which is asked for the labels that count.
        around: what of the image is segmented about them.
    """

    model: ModelFile
    around: Around

    def __str__(self) -> str:
        return f"bundle {self.model.method} {self.around}"


AnyRoi: TypeAlias = Roi | RoiMask | RoiBundle
