"""Trackers: what a run gives, told to TensorBoard or MLflow as well."""

from __future__ import annotations

import colorsys
import math
import os
import re
import secrets
from abc import abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from ignite.engine import Events

from volseg.atomic import write_text
from volseg.causes import cause_of
from volseg.files import read_bounded
from volseg.personal import cache_folder
from volseg.training.listeners.listener import Listener, RunView

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ignite.engine import Engine
    from numpy.typing import NDArray
    from torch import Tensor

    from volseg.progress import Progress
    from volseg.training.checkpoint import RunState
    from volseg.training.history import Epoch

PERCENTILES = (1.0, 99.0)
"""Of an image's intensities, shown as black and white."""
EXPERIMENT = "volseg"
MLFLOW_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # MLflow would tell its makers of each use
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a server that is gone holds training up for seconds, not minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
RUN_NAME = re.compile(r"\w{1,40}-[0-9a-f]{16}", re.ASCII)


class Tracker(Listener):
    """Tells another program of each epoch, and of the first case of each validation by a picture.

    Names of labels, figures and that picture are all that it is told: no case, path or date. An error in it ends the
    tracking alone.

    Args:
        trainer: the trainer.
        evaluator: what validates; None when no case is held out.
        regions: whether outputs are regions that may overlap, else classes with the background first.
        progress: is told why tracking ended.
    """

    title: ClassVar[str]

    def __init__(self, trainer: Engine, evaluator: Engine | None, progress: Progress, *, regions: bool = False) -> None:
        self.trainer, self.progress, self.regions = trainer, progress, regions
        self._is_on = True
        self._picture: NDArray[np.uint8] | None = None
        if evaluator is not None:
            evaluator.add_event_handler(Events.ITERATION_COMPLETED(once=1), self._look)

    @abstractmethod
    def open(self) -> bool:
        """Begin, or go on; gives whether nothing was told before of this run."""

    @abstractmethod
    def tell(self, step: int, figures: Mapping[str, float], picture: NDArray[np.uint8] | None) -> None:
        """Tell of what is known after a step; the picture is (rows, columns, 3)."""

    def flush(self) -> None:
        """Have all that was told written."""

    @abstractmethod
    def close(self, *, complete: bool) -> None:
        """Let go of files and connections."""

    def began(self, run: RunView) -> None:
        """Open, and catch up on a run that was begun without."""
        super().began(run)
        with self._apart():
            if self.open():
                for row in run.history:
                    self.tell(row.step, self._figures(row), None)

    def epoch(self, row: Epoch) -> None:
        """Tell of an epoch."""
        with self._apart():
            if self._is_on:
                picture, self._picture = self._picture, None
                self.tell(row.step, self._figures(row), picture)

    def saved(self, state: RunState) -> None:
        """Keep what was told as a checkpoint keeps the rest."""
        del state
        with self._apart():
            if self._is_on:
                self.flush()

    def end(self, *, complete: bool) -> None:
        """The run is over or interrupted."""
        with self._apart():
            if self._is_on:
                self.close(complete=complete)
        self._is_on = False

    @contextmanager
    def _apart(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001  whatever it is, it is no reason to lose a training
            if self._is_on:
                self.progress.say(f"warning: {self.title} takes no more: {cause_of(error).clause}. Training goes on.")
            self._is_on = False

    def _figures(self, row: Epoch) -> dict[str, float]:
        found = {"loss": row.loss, "learning_rate": row.learning_rate}
        if row.validation is not None:
            found["validation"] = row.validation.score
            for number, (label, dice) in enumerate(zip(self.run.labels, row.validation.per_label, strict=False), 1):
                # Numbered, since MLflow takes few characters and two labels may be the same without the others.
                found[f"dice/{number} {re.sub(r'[^A-Za-z0-9_ -]', '_', label)}"] = dice
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def _look(self, engine: Engine) -> None:
        with self._apart():
            output = engine.state.output
            item = output[0] if isinstance(output, list) and output else output
            self._picture = validation_picture(item, regions=self.regions) if isinstance(item, dict) else None


class TensorBoard(Tracker):
    """Writes the files that ``tensorboard --logdir`` reads into the run's folder."""

    title = "TensorBoard"

    def open(self) -> bool:
        """Go on from the last epoch that is kept: what a killed run told after it is void."""
        from torch.utils.tensorboard import SummaryWriter

        history, folder = self.run.history, self.run.folder.tensorboard
        is_new = not folder.is_dir()
        purge = history[-1].step + 1 if history and not is_new else None
        self._writer = SummaryWriter(str(folder), purge_step=purge)
        return is_new

    def tell(self, step: int, figures: Mapping[str, float], picture: NDArray[np.uint8] | None) -> None:
        """Write scalars, and the picture through MONAI's ``plot_2d_or_3d_image``."""
        from monai.visualize import plot_2d_or_3d_image

        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        if picture is not None:
            channels_first = picture.transpose(2, 0, 1)[None]
            plot_2d_or_3d_image(channels_first, step, self._writer, max_channels=3, tag="validation/case")
        self.flush()

    def flush(self) -> None:
        """Have it written; errors of the writer's thread come up here."""
        self._writer.flush()

    def close(self, *, complete: bool) -> None:
        """Close the file."""
        del complete
        self._writer.close()


class MLflow(Tracker):
    """A run in the experiment ``volseg`` of MLflow, through MONAI's ``MLFlowHandler``.

    Without a server it is a file in this person's cache folder, not in the bundle: what a bundle of others held there
    could name a server to send pictures to.
    """

    title = "MLflow"

    def __init__(self, *args: Any, uri: str = "", **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._uri = uri

    def open(self) -> bool:
        """Begin a run, or go on with the one whose name is kept beside the checkpoints."""
        for name, value in MLFLOW_SETTINGS.items():
            os.environ.setdefault(name, value)
        from monai.handlers import MLFlowHandler

        name, is_new = self._name()
        uri = self._uri
        if not uri:
            folder = cache_folder() / "mlflow"
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            uri = f"sqlite:///{folder / 'mlflow.db'}"
        named = os.environ.pop(TRACKING_VARIABLE, None)  # MONAI prefers it to what the person typed
        try:
            self._handler = MLFlowHandler(tracking_uri=uri, experiment_name=EXPERIMENT, run_name=name)
        finally:
            if named is not None:
                os.environ[TRACKING_VARIABLE] = named
        client = self._handler.client
        experiment = client.get_experiment_by_name(EXPERIMENT)
        found = [] if experiment is None else client.search_runs([experiment.experiment_id], f"run_name = '{name}'")
        for run in found:
            client.update_run(run.info.run_id, "RUNNING")  # MONAI goes on with a run that has not finished
        self._handler.start(self.trainer)
        return is_new or not found

    def _name(self) -> tuple[str, bool]:
        path = self.run.folder.mlflow
        if path.is_file():
            kept = read_bounded(path, 1024, "name of a run").decode("ascii", "replace").strip()
            if RUN_NAME.fullmatch(kept):
                return kept, False
        name = f"{self.run.folder.folder.name}-{secrets.token_hex(8)}"
        write_text(path, name + "\n")
        return name, True

    def tell(self, step: int, figures: Mapping[str, float], picture: NDArray[np.uint8] | None) -> None:
        """Log metrics, and the picture."""
        client, run = self._handler.client, self._handler.cur_run.info.run_id
        for name, value in figures.items():
            client.log_metric(run, name, value, step=step, synchronous=True)
        if picture is not None:
            client.log_image(run, picture, key="validation", step=step, synchronous=True)

    def close(self, *, complete: bool) -> None:
        """End the run where it is complete; one that was interrupted is still running."""
        if not complete:
            self._handler.cur_run = None
        self._handler.close()


def validation_picture(item: Mapping[str, object], *, regions: bool) -> NDArray[np.uint8] | None:
    """A slice of a validated case: its image, the reference, the prediction, side by side.

    The slice is the last axis's, in the middle of the reference's foreground.

    Args:
        item: what an evaluator gives of a case: ``image``, ``label`` and ``pred``, each (channels, i, j, k).
        regions: whether the channels of the masks may overlap, else they are classes with the background first.

    Returns:
        (rows, columns, 3), or None where the item holds something else.
    """
    parts = [item.get(key) for key in ("image", "label", "pred")]
    tensors = [part for part in parts if isinstance(part, torch.Tensor) and part.ndim == 4]
    if len(tensors) < 3 or len({tuple(tensor.shape[1:]) for tensor in tensors}) > 1:
        return None
    image = tensors[0][0].detach().float().cpu().numpy()
    masks = [_values(tensor, regions=regions) for tensor in tensors[1:]]
    counts = (masks[0] > 0).sum(axis=(0, 1)).cumsum()
    at = int(np.searchsorted(counts, counts[-1] / 2)) if counts[-1] else image.shape[2] // 2
    grey = image[:, ::-1, at].T
    low, high = np.nanpercentile(grey, PERCENTILES)
    grey = np.nan_to_num(np.clip((grey - low) / max(high - low, 1e-12), 0, 1))
    plain = np.repeat(grey[..., None], 3, axis=2)
    count = max(2, *(tensor.shape[0] for tensor in tensors[1:]), *(int(mask.max()) for mask in masks))
    panels = [plain]
    for mask in masks:
        plane, panel = mask[:, ::-1, at].T, plain.copy()
        for value in np.unique(plane[plane > 0]):
            panel[plane == value] = 0.5 * panel[plane == value] + 0.5 * np.array(
                colorsys.hsv_to_rgb(float(value) / count, 1, 1)
            )
        panels.append(panel)
    return np.asarray(np.concatenate(panels, axis=1) * 255, dtype=np.uint8)


def _values(mask: Tensor, *, regions: bool) -> NDArray[np.int64]:
    """One value a voxel, 0 for background; the last of overlapping regions."""
    whole = mask.detach().float().cpu().numpy()
    if len(whole) == 1 and not regions:
        return np.asarray(np.rint(whole[0]), dtype=np.int64)
    numbers = np.arange(len(whole)) + (1 if regions else 0)
    return np.asarray(((whole > 0.5) * numbers[:, None, None, None]).max(axis=0), dtype=np.int64)
