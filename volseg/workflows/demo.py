"""The demo: the whole chain on phantoms, from DICOM to scores and pictures."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from volseg.atomic import TEMPORARY_MARK, write_error, write_text
from volseg.errors import FileError, InputError, OutputExistsError, UsageError
from volseg.files import read_bounded
from volseg.outcomes import Ledger, Status
from volseg.progress import SILENT, Progress
from volseg.workflows.phantoms.phantom import MATRIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from volseg.evaluation import Evaluation
    from volseg.workflows.phantoms.phantom import Phantom

STAMP = "demo.json"
STEPS = 8


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What the demo makes and how long it trains."""

    cases: int = 24
    """How many phantoms have masks to learn from."""

    new_cases: int = 6
    """How many other phantoms are segmented and scored."""

    minutes: float = 6.0
    """How long to train; called again with more, it goes on."""

    matrix: int = MATRIX
    """Rows and columns of a slice, give or take a twelfth; 24 to 512."""

    seed: int = 0
    """Another seed makes other phantoms."""

    device: Literal["cpu", "cuda"] | None = None
    """cpu or cuda; a GPU where there is one unless told otherwise."""


DEFAULTS = DemoOptions()


@dataclass(frozen=True)
class Places:
    """Where everything of a demo lies."""

    folder: Path

    @property
    def scans(self) -> Path:
        """DICOM of the phantoms to learn from."""
        return self.folder / "dicom"

    @property
    def new_scans(self) -> Path:
        """DICOM of the phantoms to segment."""
        return self.folder / "dicom-new"

    @property
    def dataset(self) -> Path:
        """The data set: converted images, and masks."""
        return self.folder / "dataset"

    @property
    def bundle(self) -> Path:
        """The MONAI bundle."""
        return self.folder / "bundle"

    @property
    def masks(self) -> Path:
        """What the bundle makes of the new scans."""
        return self.folder / "masks"

    @property
    def reference(self) -> Path:
        """The true masks of the new scans."""
        return self.folder / "reference"

    @property
    def scores(self) -> Path:
        """The comparison of the two."""
        return self.folder / "evaluation"

    @property
    def pictures(self) -> Path:
        """One picture for each new scan."""
        return self.folder / "pictures"


@dataclass(frozen=True)
class Viewable:
    """A case to open in ITK-SNAP: the image, the mask, and a picture of both."""

    case: str
    image: Path
    mask: Path
    picture: Path


@dataclass(frozen=True)
class DemoResult:
    """What a demo made.

    Args:
        places: where everything lies.
        evaluation: the scores of the new cases.
        cases: the new cases.
        label_descriptions: names and colours for ITK-SNAP.
    """

    places: Places
    evaluation: Evaluation
    cases: tuple[Viewable, ...]
    label_descriptions: Path


def demo(folder: Path, options: DemoOptions = DEFAULTS, progress: Progress = SILENT) -> DemoResult:
    """Make a cohort of phantoms as DICOM, and take it through every verb.

    The masks are drawn from the phantoms' formulas on the converted images, by case name, as a person would with
    ITK-SNAP. The new cases are segmented straight from DICOM. What is done already is not done again.

    Args:
        folder: where everything goes; absent, empty, or of an earlier run with the same phantoms.
        options: how many phantoms, how long to train.
        progress: receives the progress.

    Raises:
        UsageError: the options make no sense.
        OutputExistsError: the folder holds something else, or other phantoms.
        VolsegError: a verb ended so.
    """
    from volseg.verbs.check import check
    from volseg.verbs.convert import ConvertOptions, convert
    from volseg.verbs.evaluate import EvaluateOptions, evaluate
    from volseg.verbs.plan import plan
    from volseg.verbs.predict import PredictOptions, predict
    from volseg.verbs.train import TrainOptions, train
    from volseg.workflows.phantoms.drawing import draw_masks
    from volseg.workflows.phantoms.phantom import make_phantom

    if min(options.cases, options.new_cases) < 1:
        raise UsageError("The demo needs at least one phantom to learn from and one to segment.")
    places = Places(folder)
    cohort, others = (
        [make_phantom(f"phantom-{n:03d}", (options.seed, n), matrix=options.matrix) for n in numbers]
        for numbers in (range(options.cases), range(options.cases, options.cases + options.new_cases))
    )
    _claim(folder, options)

    progress.say(f"1/{STEPS} Scans: {options.cases} + {options.new_cases} phantoms as CT series in DICOM")
    _scan(cohort, places.scans, (options.seed, 0), progress)
    _scan(others, places.new_scans, (options.seed, 1), progress)

    progress.say(f"2/{STEPS} volseg convert {places.scans} {places.dataset} --spacing native")
    _require_done("convert", convert(places.scans, places.dataset, ConvertOptions(spacing=("native",)), progress))

    progress.say(f"3/{STEPS} Masks: drawn on the converted images, into {places.dataset / 'labelsTr'}")
    _draw_dataset(places.dataset, cohort)

    progress.say(f"4/{STEPS} volseg check {places.dataset}")
    report = check(places.dataset, progress=progress)
    if report.errors:
        raise InputError("The demo's own data set has faults: " + " ".join(str(fault) for fault in report.errors))

    progress.say(f"5/{STEPS} volseg plan {places.dataset} {places.bundle}")
    if not places.bundle.exists():
        plan(places.dataset, places.bundle, progress=progress)

    progress.say(f"6/{STEPS} volseg train {places.bundle} --minutes {options.minutes:g}")
    train(places.bundle, TrainOptions(minutes=options.minutes, device=options.device), progress)

    progress.say(f"7/{STEPS} volseg predict {places.bundle} {places.new_scans} {places.masks}")
    predicting = PredictOptions(device=options.device, overwrite=_are_stale(places))
    _require_done("predict", predict(places.bundle, places.new_scans, places.masks, predicting, progress))

    progress.say(f"8/{STEPS} volseg evaluate {places.masks} {places.reference} --out {places.scores}")
    draw_masks(places.masks / "images", places.reference, others)
    evaluation = evaluate(places.masks, places.reference, EvaluateOptions(out=places.scores, overwrite=True), progress)
    return DemoResult(places, evaluation, _pictures(places), places.masks / "labels.txt")


def _claim(folder: Path, options: DemoOptions) -> None:
    """Take the folder, or find that it is an earlier run's with the same phantoms."""
    described = {key: value for key, value in asdict(options).items() if key not in ("minutes", "device")}
    text = json.dumps(described, indent=1) + "\n"
    stamp = folder / STAMP
    if stamp.exists():
        if read_bounded(stamp, 2**16, "demo's stamp") != text.encode():
            raise OutputExistsError(
                f"{folder} holds a demo with other phantoms. Name another folder, or remove it first."
            )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputExistsError(f"{folder} is there already and holds no demo. Name another folder.")
    write_text(stamp, text)


def _scan(phantoms: Sequence[Phantom], folder: Path, seed: tuple[int, ...], progress: Progress) -> None:
    """Write the phantoms as DICOM, all or none."""
    from volseg.workflows.phantoms.scanner import write_cohort

    if folder.exists():
        return
    partial = folder.with_name(f".{folder.name}{TEMPORARY_MARK}")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    try:
        with progress.task("Scanning", len(phantoms), "phantoms") as task:

            def scanned() -> Iterator[Phantom]:
                for phantom in phantoms:
                    yield phantom
                    task.advance()

            write_cohort(scanned(), partial, seed=seed)
        partial.replace(folder)
    except OSError as error:
        raise error if isinstance(error, FileError) else write_error(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _require_done(verb: str, ledger: Ledger) -> None:
    """Phantoms are good series: one that is refused is volseg's fault and must not pass for a smaller cohort."""
    bad = [outcome for outcome in ledger.outcomes if outcome.status in (Status.REFUSED, Status.FAILED)]
    if bad:
        raise InputError(
            f"volseg {verb} did not do {len(bad)} of the demo's own cases. {bad[0].case}: {bad[0].message}"
        )


def _draw_dataset(dataset: Path, phantoms: Sequence[Phantom]) -> None:
    """Put a mask of each image's name into labelsTr, and the names of the labels into dataset.json."""
    from volseg.dataset.listing import DATASET_JSON, MAX_LISTING_BYTES
    from volseg.workflows.phantoms.drawing import draw_masks
    from volseg.workflows.phantoms.phantom import LABELS

    for images in ("imagesTs", "imagesTr"):
        draw_masks(dataset / images, dataset / "labelsTr", phantoms)
    path = dataset / DATASET_JSON
    content = json.loads(read_bounded(path, MAX_LISTING_BYTES, "list of cases"))
    if content.get("labels") != LABELS.to_dataset_json():
        content["labels"] = LABELS.to_dataset_json()
        write_text(path, json.dumps(content, indent=1) + "\n")


def _are_stale(places: Places) -> bool:
    """Whether a mask is older than the weights: training went on since."""
    from volseg.volume import list_images

    weights = places.bundle / "models" / "model.pt"
    trained_at = weights.stat().st_mtime if weights.is_file() else 0.0
    return any(mask.stat().st_mtime < trained_at for mask in list_images(places.masks))


def _pictures(places: Places) -> tuple[Viewable, ...]:
    from volseg.pictures.overlay import write_overlay
    from volseg.volume import list_images, read_mask, read_volume, stem_of
    from volseg.workflows.phantoms.phantom import LABELS

    found = []
    for mask in list_images(places.masks):
        case = stem_of(mask)
        view = Viewable(case, places.masks / "images" / mask.name, mask, places.pictures / f"{case}.png")
        write_overlay(
            view.picture,
            read_volume(view.image),
            read_mask(mask),
            LABELS,
            reference=read_mask(places.reference / mask.name),
            title=f"{case}: filled by the network, outlined the truth",
        )
        found.append(view)
    return tuple(found)
