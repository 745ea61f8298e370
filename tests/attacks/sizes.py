"""Configs that keep to allowed words, with numbers or places that no machine can bear."""

from __future__ import annotations

from collections.abc import Callable

from tests.attacks.attack import Attacks
from tests.attacks.configs import Config, _get, _set, both
from tests.attacks.scene import REFUSED, Command, Scene

NUMBERS = Attacks("number")

UNET = {
    "_target_": "monai.networks.nets.UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3,
    "channels": [4, 8], "strides": [2],
}  # fmt: skip

INFERENCE: dict[str, Callable[[Config], object]] = {
    "unet-of-8192-features": lambda c: c.update(network_def=UNET | {"channels": [8192, 8192, 8192], "strides": [2, 2]}),
    "unet-of-many-units": lambda c: c.update(network_def=UNET | {"num_res_units": 10_000_000}),
    "unet-of-many-levels": lambda c: c.update(network_def=UNET | {"channels": [4] * 5000, "strides": [1] * 4999}),
    "unet-of-huge-kernel": lambda c: c.update(network_def=UNET | {"kernel_size": 2001, "up_kernel_size": 2001}),
    "unet-of-many-dimensions": lambda c: c.update(network_def=UNET | {"spatial_dims": 30}),
    "dynunet-of-65536-filters": lambda c: _set(c, "network_def#filters", [65536, 65536, 65536]),
    "dynunet-of-negative-filters": lambda c: _set(c, "network_def#filters", [-16, -32, -64]),
    "dynunet-of-float-filters": lambda c: _set(c, "network_def#filters", [1e300, float("nan"), float("inf")]),
    "dynunet-of-text": lambda c: _set(c, "network_def#filters", "16"),
    "dynunet-of-many-outputs": lambda c: _set(c, "network_def#out_channels", 10**9),
    "vit-of-many-heads": lambda c: c.update(network_def={
        "_target_": "monai.networks.nets.UNETR", "in_channels": 1, "out_channels": 3, "img_size": [4096, 4096, 4096],
        "hidden_size": 12288, "num_heads": 12, "mlp_dim": 10**6}),
    "swin-of-huge-features": lambda c: c.update(network_def={
        "_target_": "monai.networks.nets.SwinUNETR", "in_channels": 1, "out_channels": 3, "feature_size": 12 * 4096}),
    "segresnet-of-many-blocks": lambda c: c.update(network_def={
        "_target_": "monai.networks.nets.SegResNet", "spatial_dims": 3, "init_filters": 4096, "in_channels": 1,
        "out_channels": 3, "blocks_down": [100000] * 4}),
    "roi-of-a-million": lambda c: _set(c, "inferer#roi_size", [10**6, 10**6, 10**6]),
    "roi-of-nothing": lambda c: _set(c, "inferer#roi_size", [0, 0, 0]),
    "roi-of-one-voxel": lambda c: c["inferer"].update(roi_size=[1, 1, 1], overlap=0.0),
    "roi-of-minus-one": lambda c: _set(c, "inferer#roi_size", [-1, -1, -1]),
    "sliding-batch-of-a-million": lambda c: _set(c, "inferer#sw_batch_size", 10**9),
    "overlap-of-almost-one": lambda c: _set(c, "inferer#overlap", 0.9999999),
    "overlap-of-two": lambda c: _set(c, "inferer#overlap", 2.0),
    "spacing-of-a-nanometre": lambda c: _set(c, "preprocessing#transforms#3#pixdim", [1e-6, 1e-6, 1e-6]),
    "spacing-of-a-tenth": lambda c: _set(c, "preprocessing#transforms#3#pixdim", [0.01, 0.01, 0.01]),
    "spacing-of-nothing": lambda c: _set(c, "preprocessing#transforms#3#pixdim", [0, 0, 0]),
    "spacing-of-no-number": lambda c: _set(c, "preprocessing#transforms#3#pixdim", [float("nan")] * 3),
    "spacing-of-kilometres": lambda c: _set(c, "preprocessing#transforms#3#pixdim", [1e9, 1e9, 1e9]),
    "padding-of-a-million": lambda c: _set(c, "preprocessing#transforms#4", {
        "_target_": "monai.transforms.SpatialPadd", "keys": "image", "spatial_size": [100000, 100000, 100000]}),
    "resize-of-a-million": lambda c: _set(c, "preprocessing#transforms#4", {
        "_target_": "monai.transforms.Resized", "keys": "image", "spatial_size": [100000, 100000, 100000]}),
    "divisible-by-a-million": lambda c: _set(c, "preprocessing#transforms#4", {
        "_target_": "monai.transforms.DivisiblePadd", "keys": "image", "k": 10**6}),
    "border-of-a-million": lambda c: _set(c, "preprocessing#transforms#4", {
        "_target_": "monai.transforms.BorderPadd", "keys": "image", "spatial_border": 10**6}),
    "repeated-channels": lambda c: _set(c, "preprocessing#transforms#4", {
        "_target_": "monai.transforms.RepeatChanneld", "keys": "image", "repeats": 10**9}),
    "gaussian-of-a-million": lambda c: _set(c, "preprocessing#transforms#4", {
        "_target_": "monai.transforms.GaussianSmoothd", "keys": "image", "sigma": 1e9}),
    "one-hot-of-a-million": lambda c: _set(c, "postprocessing#transforms#1#to_onehot", 10**8),
    "workers-5000": lambda c: _set(c, "dataloader#num_workers", 5000),
    "batch-of-a-million": lambda c: _set(c, "dataloader#batch_size", 10**9),
    "many-transforms": lambda c: _set(c, "preprocessing#transforms", c["preprocessing"]["transforms"] + [
        c["preprocessing"]["transforms"][4]] * 30_000),
    "expression-power": lambda c: c.update(device="$10**10**10"),
    "expression-shift": lambda c: c.update(device="$1 << 10**12"),
    "expression-list": lambda c: c.update(datalist="$[0] * 10**11"),
    "expression-product-of-references": lambda c: c.update(a=[0], b=10**10, datalist="$@a * @b"),
    "expression-sum-of-lists": lambda c: c.update(
        {f"l{n}": f"$@l{n - 1} + @l{n - 1}" for n in range(1, 40)}, l0=[0], datalist="@l39"),
    "expression-text": lambda c: c.update(device="$'a' * 10**11"),
    "expression-deep": lambda c: c.update(device="$" + "(" * 5000 + "1" + ")" * 5000),
    "expression-deep-unary": lambda c: c.update(device="$" + "-" * 200_000 + "1"),
    "expression-long": lambda c: c.update(device="$" + "+".join(["1"] * 300_000)),
    "expression-all-files": lambda c: c.update(datalist="$sorted(glob.glob('/**/*', recursive=True))"),
}  # fmt: skip

TRAINING: dict[str, Callable[[Config], object]] = {
    "steps-times-a-list": lambda c: c.update(batch_size=[0], steps_per_epoch=1_200_000_000),
    "steps-times-text": lambda c: c.update(batch_size="aaaaaaaaaa", steps_per_epoch=10**9),
    "steps-of-ten-to-the-15": lambda c: c.update(steps_per_epoch=10**15),
    "steps-of-minus-one": lambda c: c.update(steps_per_epoch=-1),
    "steps-of-no-number": lambda c: c.update(steps_per_epoch=float("nan")),
    "batch-of-ten-to-the-9": lambda c: c.update(batch_size=10**9),
    "workers-of-5000": lambda c: c.update(num_workers=5000),
    "workers-of-5000-in-the-cache": lambda c: _set(c, "train#dataset#num_workers", 5000),
    "workers-of-5000-in-validation": lambda c: _set(c, "validate#dataloader#num_workers", 5000),
    "patch-of-a-million": lambda c: _set(c, "train#random_transforms#0#spatial_size", [10**6] * 3),
    "crop-with-many-samples": lambda c: _set(c, "train#random_transforms#7", {
        "_target_": "monai.transforms.RandSpatialCropSamplesd", "keys": ["image", "label"], "roi_size": [8, 8, 8],
        "num_samples": 10**9}),
    "one-hot-of-a-million": lambda c: _set(c, "validate#postprocessing#transforms#0#to_onehot", 10**8),
    "prefetch": lambda c: c["train"]["dataloader"].update(num_workers=1, prefetch_factor=10**9),
    "learning-rate-of-no-number": lambda c: c.update(learning_rate=float("nan")),
    "learning-rate-huge": lambda c: c.update(learning_rate=1e300),
    "fold-huge": lambda c: c.update(fold=10**30),
    "optimizer-huge": lambda c: c["optimizer"].update(weight_decay=float("inf")),
}  # fmt: skip


def _spoiled(spoil: Callable[[Config], object], config: str) -> Callable[[Scene], list[Command]]:
    return lambda scene: both(scene, spoil, config)


for _name, _spoil in INFERENCE.items():
    NUMBERS.add(_name, "a number that takes all memory or time", _spoiled(_spoil, "inference"))
for _name, _spoil in TRAINING.items():
    NUMBERS.add(f"train-{_name}", "a number that takes all memory or time", _spoiled(_spoil, "train"))


@NUMBERS("learning-rate-not-a-number-published", "weights that are no numbers become the bundle's model")
def _(scene: Scene) -> list[Command]:
    scene.data()
    bundle = scene.bundle(train={"learning_rate": 1e30})
    return [scene.train(bundle, "--data", scene.work / "data", "--fresh", "--publish")]


# Allowed targets in the wrong place, data of elsewhere.


def _data(images: str, labels: str | None = None) -> list[dict[str, str]]:
    return [{"image": images, "label": labels or images}]


PLACED: dict[str, Callable[[Scene, Config], object]] = {
    "network-is-a-dataset": lambda s, c: c.update(network_def={
        "_target_": "monai.data.CacheDataset", "data": _data(f"{s.outside}/secret.nii.gz"),
        "transform": {"_target_": "monai.transforms.LoadImaged", "keys": "image"}}),
    "network-is-a-transform": lambda s, c: c.update(network_def={
        "_target_": "monai.transforms.LoadImage", "reader": "NibabelReader"}),
    "inferer-is-a-dataset": lambda s, c: c.update(inferer={
        "_target_": "monai.data.Dataset", "data": _data(f"{s.outside}/secret.nii.gz")}),
    "device-is-a-network": lambda _, c: c.update(device=UNET),
    "transform-is-a-network": lambda _, c: _set(c, "preprocessing#transforms#2", UNET),
    "transform-is-a-checkpoint-loader": lambda s, c: _set(c, "preprocessing#transforms#2", {
        "_target_": "monai.handlers.CheckpointLoader", "load_path": f"{s.outside}/secret.txt", "load_dict": {}}),
    "datalist-outside": lambda s, c: c.update(datalist=[f"{s.outside}/secret.nii.gz"]),
    "datalist-of-all-files": lambda s, c: c.update(datalist=f"$sorted(glob.glob('{s.outside}/*'))"),
    "dataset-dir-outside": lambda s, c: c.update(dataset_dir=str(s.outside)),
    "dataset-outside": lambda s, c: _set(c, "dataset#data", _data(f"{s.outside}/secret.nii.gz")),
    "bundle-root-outside": lambda s, c: c.update(bundle_root=str(s.outside)),
    "checkpoint-outside": lambda s, c: _set(c, "handlers#0#load_path", f"{s.outside}/secret.txt"),
    "load-images-of-elsewhere": lambda s, c: _set(c, "preprocessing#transforms#1", {
        "_target_": "monai.transforms.LoadImaged", "keys": "image_meta_dict", "reader": "ITKReader",
        "allow_missing_keys": True}),
    "copied-key-is-loaded": lambda s, c: _set(c, "preprocessing#transforms#0", {
        "_target_": "monai.transforms.CopyItemsd", "keys": "secret", "names": "image",
        "allow_missing_keys": True}),
    "loaded-after-all": lambda s, c: _set(c, "postprocessing#transforms#0", {
        "_target_": "monai.transforms.LoadImaged", "keys": "pred"}),
    "deleted-items": lambda _, c: _set(c, "postprocessing#transforms#0", {
        "_target_": "monai.transforms.DeleteItemsd", "keys": ["pred"]}),
    "reader-by-name": lambda s, c: _set(c, "preprocessing#transforms#0#reader", "os.system"),
    "reader-of-pickles": lambda s, c: c["preprocessing"]["transforms"][0].update(reader="NumpyReader"),
}  # fmt: skip

PLACED_IN_TRAINING: dict[str, Callable[[Scene, Config], object]] = {
    "record-outside": lambda s, c: c.update(cases_record=f"{s.outside}/secret.json"),
    "record-of-lists": lambda s, c: c.update(cases_record=["a", {"b": 1}]),
    "dataset-dir-outside": lambda s, c: c.update(dataset_dir=str(s.outside)),
    "dataset-of-own-list": lambda s, c: _set(c, "train#dataset#data", _data(f"{s.outside}/secret.nii.gz")),
    "dataset-dir-of-the-cases": lambda s, c: _set(c, "train#dataset#data#dataset_dir", str(s.outside)),
    "validation-of-own-list": lambda s, c: _set(c, "validate#dataset#data", _data(f"{s.outside}/secret.nii.gz")),
    "network-is-a-dataset": lambda s, c: c.update(network_def={
        "_target_": "monai.data.CacheDataset", "data": _data(f"{s.outside}/secret.nii.gz"),
        "transform": {"_target_": "monai.transforms.LoadImaged", "keys": "image"}}),
    "loss-is-a-dataset": lambda s, c: c.update(loss={
        "_target_": "volseg.training.fold_cases", "dataset_dir": str(s.outside), "part": "training", "fold": 0,
        "record": f"{s.outside}/secret.json"}),
    "persistent-cache": lambda s, c: c["train"]["dataset"].update(
        _target_="monai.data.PersistentDataset", cache_dir=str(s.victim / "cache")),
    "handler-saves-elsewhere": lambda s, c: c["train"]["handlers"].append({
        "_target_": "monai.handlers.CheckpointSaver", "save_dir": str(s.victim), "save_dict": {"a": "@network"},
        "save_final": True}),
}  # fmt: skip


def _placed(spoil: Callable[[Scene, Config], object], config: str) -> Callable[[Scene], list[Command]]:
    def build(scene: Scene) -> list[Command]:
        (scene.outside / "imagesTr").mkdir()
        (scene.outside / "labelsTr").mkdir()
        for case in range(3):
            for folder in ("imagesTr", "labelsTr"):
                (scene.outside / folder / f"case_{case}.nii.gz").hardlink_to(scene.outside / "secret.nii.gz")
        commands = both(scene, lambda content: spoil(scene, content), config)
        if config == "train":
            # Without the data set named, the bundle's own may not be taken, unless this person planned it.
            commands.append(scene.train(scene.work / "bundle"))
        return commands

    return build


for _name, _place in PLACED.items():
    NUMBERS.add(f"placed-{_name}", "an allowed target, or a path, where it does harm", _placed(_place, "inference"))
for _name, _place in PLACED_IN_TRAINING.items():
    NUMBERS.add(f"placed-train-{_name}", "an allowed target, or a path, where it does harm", _placed(_place, "train"))

__all__ = ["NUMBERS", "REFUSED", "_get"]
