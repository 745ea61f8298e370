"""Bundles whose configs would run code, read or write elsewhere, or never end."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from typing import Any

from tests.attacks.attack import Attacks
from tests.attacks.scene import REFUSED, Command, Scene, encoded, write_config

CONFIGS = Attacks("config")

Config = dict[str, Any]
NOT_RUN = frozenset({1, 2, 3})


def used(scene: Scene, spoil: Callable[[Config], object], config: str = "inference") -> list[Command]:
    """Use the spoiled bundle."""
    bundle = scene.bundle(**{config: spoil})
    return [scene.train(bundle, "--data", scene.data())] if config == "train" else [scene.predict(bundle)]


def both(scene: Scene, spoil: Callable[[Config], object], config: str = "inference") -> list[Command]:
    """Check the spoiled bundle, and use it."""
    commands = used(scene, spoil, config)
    return [scene.check(scene.work / "bundle"), *commands]


def _set(config: Config, place: str, value: object) -> None:
    """Put a value at a place such as ``postprocessing#transforms#2``."""
    *parents, last = place.split("#")
    target: Any = config
    for parent in parents:
        target = target[int(parent)] if isinstance(target, list) else target.setdefault(parent, {})
    if isinstance(target, list):
        target.insert(int(last), value)
    else:
        target[last] = value


def _get(config: Config, place: str) -> Any:
    target: Any = config
    for part in place.split("#"):
        target = target[int(part)] if isinstance(target, list) else target[part]
    return target


# Expressions in every place that MONAI evaluates, and some that it does not.

PLACES = (
    "bundle_root", "dataset_dir", "output_dir", "datalist", "device", "network_def", "network_def#in_channels",
    "network_def#filters", "network", "preprocessing", "preprocessing#transforms#0", "preprocessing#_requires_",
    "preprocessing#_disabled_", "preprocessing#_mode_", "preprocessing#_target_", "preprocessing#_desc_", "inferer",
    "inferer#roi_size", "postprocessing", "postprocessing#transforms#1", "handlers#0", "evaluator", "evaluator#network",
    "imports", "run", "initialize", "finalize", "volseg_postprocessing", "anything_else", "network_def#anything#deep",
)  # fmt: skip


def _expression_at(place: str) -> Callable[[Scene], list[Command]]:
    def build(scene: Scene) -> list[Command]:
        expression = f"${scene.marker}"
        value = ["$import os", expression] if place in ("imports", "run", "initialize", "finalize") else expression
        return used(scene, lambda config: _set(config, place, value))

    return build


for _place in PLACES:
    CONFIGS.add(
        f"expression-at-{_place.replace('#', '.')}", f"code as an expression at {_place}", _expression_at(_place)
    )

TRAIN_PLACES = (
    "cases_record", "max_epochs", "learning_rate", "num_workers", "loss", "optimizer#params", "train#sampler#num_samples",
    "train#dataset#data", "train#random_transforms#0", "train#handlers#0", "train#trainer#max_epochs",
    "validate#key_metric#val_mean_dice", "average", "budget",
)  # fmt: skip


def _expression_in_training(place: str) -> Callable[[Scene], list[Command]]:
    def build(scene: Scene) -> list[Command]:
        return used(scene, lambda config: _set(config, place, f"${scene.marker}"), "train")

    return build


for _place in TRAIN_PLACES:
    CONFIGS.add(
        f"expression-in-train-{_place.replace('#', '.')}",
        f"code as an expression at {_place} of train.yaml",
        _expression_in_training(_place),
    )

# Expressions that hide what they do, where an expression is expected: M stands for the marker's code as text.

SPELLINGS = {
    "import-call": "__import__('os').system(S)",
    "getattr": "getattr(__import__('o' + 's'), 'sys' + 'tem')(S)",
    "encoded": "E",
    "through-torch": "torch.os.system(S)",
    "through-torch-serialization": "torch.serialization.os.system(S)",
    "through-glob": "glob.os.system(S)",
    "through-reference": "@network_def.forward.__globals__['__builtins__']['exec'](M)",
    "through-reference-class": "@network_def.__class__.__init__.__globals__['torch'].os.system(S)",
    "subclasses": "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0]"
    ".__init__.__globals__['system'](S)",
    "lambda": "(lambda: exec(M))()",
    "comprehension": "[exec(M) for _ in [0]]",
    "generator-frame": "(g := (g.gi_frame.f_builtins['exec'](M) for _ in [0])) and list(g)",
    "format": "f'{exec(M)}'",
    "format-nested": "'{0.__class__}'.format(exec(M))",
    "fullwidth": "ｅｘｅｃ(M)",
    "italic": "𝘦𝘹𝘦𝘤(M)",
    "default-argument": "(lambda x=exec(M): x)()",
    "walrus": "(x := exec(M))",
    "conditional": "1 if exec(M) else 2",
    "starred": "[*[exec(M)]]",
    "dictionary": "{'a': exec(M)}",
    "sorted-key": "sorted([M], key=exec)",
    "sorted-key-lambda": "sorted(glob.glob('*'), key=lambda _: exec(M))",
    "map": "list(map(exec, [M]))",
    "torch-load": "torch.load('evil.pt', weights_only=False)",
    "torch-hub": "torch.hub.load('.', 'evil', source='local')",
    "torch-device-import": "torch.device(__import__('os').system(S) or 'cpu')",
    "torch-compile": "torch._inductor.codecache.subprocess.run(['sh', '-c', S])",
    "torch-utils": "torch.utils.cpp_extension.subprocess.run(['sh', '-c', S])",
    "eval-of-reference": "eval(@code)",
    "monai-utils": "monai.utils.module.os.system(S)",
    "monai-run": "monai.bundle.run(config_file='evil.json')",
    "monai-parser": "monai.bundle.ConfigParser({'a': '$' + M}).get_parsed_content('a')",
    "whitespace-first": "  \t\n __import__('os').system(S)",
    "comment-first": "# harmless\n__import__('os').system(S)",
    "line-continuation": "__imp\\\nort__('os').system(S)",
    "sorted-glob-and-more": "sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')) + [exec(M)]",
    "glob-through-marker": "sorted(glob.glob(__import__('os').popen(S).read()))",
    "bundle-root-and-more": "@bundle_root + str(exec(M))",
    "type-metaclass": "type('a', (), {'__init_subclass__': lambda: 0, 'x': exec(M)})",
}


def _spelled(spelling: str, place: str) -> Callable[[Scene], list[Command]]:
    def build(scene: Scene) -> list[Command]:
        text = spelling.replace("S)", f"{scene.shell!r})").replace("S]", f"{scene.shell!r}]")
        text = (
            text.replace("(M", f"({scene.marker!r}")
            .replace("[M", f"[{scene.marker!r}")
            .replace("+ M", f"+ {scene.marker!r}")
        )
        text = encoded(scene.marker) if text == "E" else text
        write_config(scene.work / "evil.json", {"run": [f"${scene.marker}"], "initialize": [f"${scene.marker}"]})
        (scene.work / "hubconf.py").write_text(f"{scene.marker}\ndef evil(): pass\n")

        def spoil(config: Config) -> None:
            config["code"] = scene.marker
            _set(config, place, f"${text}")

        return [scene.predict(scene.bundle(inference=spoil))]

    return build


for _name, _spelling in SPELLINGS.items():
    _where = "datalist" if "glob" in _name or "sorted" in _name else "device"
    CONFIGS.add(f"spelled-{_name}", f"an expression that hides what it does: {_spelling}", _spelled(_spelling, _where))

# Targets that do harm by being built.

TARGETS: dict[str, Config] = {
    "os.system": {"command": "S"},
    "posix.system": {"command": "S"},
    "subprocess.Popen": {"args": ["sh", "-c", "S"]},
    "subprocess.check_output": {"args": ["sh", "-c", "S"]},
    "builtins.exec": {"source": "M"},
    "builtins.eval": {"_args_": ["M"]},
    "timeit.timeit": {"stmt": "M", "number": 1},
    "cProfile.run": {"statement": "M"},
    "pdb.run": {"statement": "M"},
    "runpy.run_path": {"path_name": "bundle/evil.py"},
    "importlib.import_module": {"name": "evil"},
    "pydoc.locate": {"path": "evil.x"},
    "monai.utils.module.optional_import": {"module": "evil"},
    "monai.utils.optional_import": {"module": "evil"},
    "monai.bundle.ConfigParser": {"config": {"a": "$M"}},
    "monai.bundle.run": {"config_file": "evil.json"},
    "monai.bundle.ConfigWorkflow": {"config_file": "evil.json", "workflow_type": "train"},
    "monai.transforms.Lambdad": {"keys": "image", "func": "$lambda x: M"},
    "monai.transforms.Lambda": {"func": "$lambda x: M"},
    "torch.load": {"f": "bundle/evil.pt", "weights_only": False},
    "torch.jit.load": {"f": "bundle/evil.pt"},
    "torch.hub.load": {"repo_or_dir": ".", "model": "evil", "source": "local"},
    "torch.utils.cpp_extension.load_inline": {"name": "evil", "cpp_sources": "int f(){return 1;}"},
    "numpy.load": {"file": "bundle/evil.npy", "allow_pickle": True},
    "pandas.read_pickle": {"filepath_or_buffer": "bundle/evil.pkl"},
    "pickle.loads": {"_args_": ["x"]},
    "monai.apps.auto3dseg.AutoRunner": {"work_dir": "outside"},
    "monai.auto3dseg.algo_from_pickle": {"pkl_filename": "bundle/evil.pkl"},
    "monai.apps.utils.download_and_extract": {"url": "file:///etc/hostname", "output_dir": "O"},
    "monai.apps.DecathlonDataset": {"root_dir": "O", "task": "Task09_Spleen", "section": "test", "download": False},
    "monai.data.PersistentDataset": {"data": [], "transform": None, "cache_dir": "O/cache"},
    "monai.data.CSVDataset": {"src": "O/secret.txt"},
    "monai.data.CacheDataset": {"data": [{"image": "O/secret.nii.gz"}], "transform": {
        "_target_": "monai.transforms.LoadImaged", "keys": "image"}},
    "monai.networks.nets.TorchVisionFCModel": {"model_name": "resnet18", "pretrained": True},
    "pathlib.Path.write_text": {"self": "O/written", "data": "x"},
    "shutil.rmtree": {"path": "O/victim"},
    "shutil.copy": {"src": "O/secret.txt", "dst": "bundle/stolen"},
    "os.remove": {"path": "O/victim/keep.txt"},
    "os.rename": {"src": "O/victim", "dst": "O/gone"},
    "urllib.request.urlopen": {"url": "file:///etc/hostname"},
    "webbrowser.open": {"url": "http://127.0.0.1:9/"},
    "logging.FileHandler": {"filename": "O/log"},
    "logging.config.fileConfig": {"fname": "bundle/configs/logging.conf"},
    "ctypes.CDLL": {"name": "bundle/evil.so"},
    "scripts.evil.Evil": {},
    "evil.Evil": {},
    "bundle.evil.Evil": {},
    "functools.partial": {"_args_": ["os.system", "S"]},
    "operator.methodcaller": {"name": "system"},
    "time.sleep": {"secs": 1000},
    "sys.exit": {"status": 0},
    "os.kill": {"pid": 1, "sig": 0},
    "os._exit": {"status": 0},
}  # fmt: skip


def _filled(scene: Scene, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _filled(scene, part) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(scene, part) for part in value]
    if isinstance(value, str):
        if value == "S":
            return scene.shell
        if value.startswith("O/") or value == "O":
            return str(scene.outside) + value[1:]
        return value.replace("M", scene.marker) if value in ("M", "$M", "$lambda x: M") else value
    return value


def _target(target: str, arguments: Config, place: str) -> Callable[[Scene], list[Command]]:
    def build(scene: Scene) -> list[Command]:
        part = {"_target_": target, **_filled(scene, arguments)}
        bundle = scene.bundle(inference=lambda config: _set(config, place, part))
        from tests.attacks.weights import pickled

        for name in ("evil.pt", "evil.npy", "evil.pkl"):
            (bundle / name).write_bytes(pickled(scene))
        (bundle / "scripts").mkdir()
        for name in ("evil.py", "scripts/evil.py", "scripts/__init__.py"):
            (bundle / name).write_text(scene.module)
        write_config(scene.work / "evil.json", {"initialize": [f"${scene.marker}"], "run": [f"${scene.marker}"]})
        return [scene.predict(bundle, codes=NOT_RUN)]

    return build


for _index, (_name, _arguments) in enumerate(TARGETS.items()):
    _where = ("network_def", "preprocessing#transforms#1", "inferer", "postprocessing#transforms#0")[_index % 4]
    CONFIGS.add(f"target-{_name}", f"{_name} as the target of {_where}", _target(_name, _arguments, _where))

for _where in ("network_def", "inferer", "device", "datalist", "preprocessing", "handlers#0", "run", "imports#0"):
    CONFIGS.add(
        f"target-system-at-{_where.replace('#', '.')}",
        f"os.system as the target of {_where}",
        _target("os.system", {"command": "S"}, _where),
    )


@CONFIGS("target-by-short-name", "a class of the bundle's scripts under the name of one of MONAI's")
def _(scene: Scene) -> list[Command]:
    bundle = scene.bundle(inference=lambda config: _set(config, "network_def#_target_", "DynUNet"))
    (bundle / "monai" / "networks" / "nets").mkdir(parents=True)
    for place in ("monai", "monai/networks", "monai/networks/nets"):
        (bundle / place / "__init__.py").write_text(scene.module)
    return [scene.check(bundle), scene.predict(bundle, folder=bundle)]


@CONFIGS("target-that-looks-alike", "a target whose letters are of another alphabet, with a module of that name")
def _(scene: Scene) -> list[Command]:
    bundle = scene.bundle(inference=lambda config: _set(config, "network_def#_target_", "mоnai.networks.nets.DynUNet"))
    (bundle / "mоnai.py").write_text(scene.module)
    return [scene.predict(bundle, codes=NOT_RUN, folder=bundle)]


@CONFIGS("target-with-dots", "a target that climbs through a library to os.system")
def _(scene: Scene) -> list[Command]:
    part = {"_target_": "monai.networks.nets.dynunet.torch.os.system", "command": scene.shell}
    return both(scene, lambda config: _set(config, "network_def", part))


@CONFIGS("mode-debug", "a part built in a debugger, which waits for a person")
def _(scene: Scene) -> list[Command]:
    return both(scene, lambda config: _set(config, "network_def#_mode_", "debug"))


@CONFIGS("mode-callable", "a part that is not built but handed on as a function")
def _(scene: Scene) -> list[Command]:
    return both(scene, lambda config: _set(config, "network_def#_mode_", "callable"))


# Macros and files of others.


@CONFIGS("macro-of-a-file-outside", "% includes a file of the person's own")
def _(scene: Scene) -> list[Command]:
    return both(scene, lambda config: _set(config, "anything", f"%{scene.outside}/secret.yaml::secret"))


@CONFIGS("macro-of-a-file-by-dots", "% includes a file beside the bundle")
def _(scene: Scene) -> list[Command]:
    return both(scene, lambda config: _set(config, "network_def#norm_name", "%../../../outside/secret.json::secret"))


@CONFIGS("macro-in-metadata", "% in metadata.json includes a file of the person's own")
def _(scene: Scene) -> list[Command]:
    return both(scene, lambda config: _set(config, "name", f"%{scene.outside}/secret.yaml::secret"), "metadata")


@CONFIGS("macro-circle", "% of itself")
def _(scene: Scene) -> list[Command]:
    return both(scene, lambda config: config.update(a="%b", b="%a", network_def="%a"))


@CONFIGS("reference-circle", "@ of itself")
def _(scene: Scene) -> list[Command]:
    return both(scene, lambda config: config.update(a="@b", b="@a", device="@a"))


@CONFIGS("reference-circle-of-a-part", "a network that needs itself")
def _(scene: Scene) -> list[Command]:
    return both(scene, lambda config: _set(config, "network_def#in_channels", "@network_def"))


@CONFIGS("reference-of-ten-thousand", "a chain of ten thousand references")
def _(scene: Scene) -> list[Command]:
    chain = {f"k{number}": f"@k{number + 1}" for number in range(10_000)} | {"k10000": 1}
    return both(scene, lambda config: config.update(chain, device="@k0"))


@CONFIGS("reference-by-relative-id", "relative references beyond the root")
def _(scene: Scene) -> list[Command]:
    return both(scene, lambda config: _set(config, "network_def#in_channels", "@" + "#" * 200 + "a"))


# SaveImaged where no mask is saved.


def _saver(scene: Scene, **changes: object) -> Config:
    return {
        "_target_": "monai.transforms.SaveImaged", "keys": "image", "writer": "NibabelWriter",
        "output_dir": str(scene.victim), "output_postfix": "", "output_ext": ".nii.gz", "separate_folder": False,
        "resample": False, "print_log": False, **changes,
    }  # fmt: skip


def _compose(*transforms: object) -> Config:
    return {"_target_": "monai.transforms.Compose", "transforms": list(transforms)}


SAVERS: dict[str, Callable[[Scene, Config], object]] = {
    "in-preprocessing": lambda s, c: _set(c, "preprocessing#transforms#2", _saver(s)),
    "in-nested-compose": lambda s, c: _set(c, "postprocessing#transforms#0", _compose(_saver(s))),
    "in-deeply-nested-compose": lambda s, c: _set(c, "postprocessing#transforms#0", _compose(_compose(_compose(_saver(s))))),
    "by-reference": lambda s, c: (
        _set(c, "postprocessing#transforms#2#output_dir", str(s.victim)),
        _set(c, "postprocessing#transforms#2#keys", "image"),
        _set(c, "preprocessing#transforms#6", "@postprocessing#transforms#2"),
    ),
    "by-reference-and-link": lambda _, c: (
        _set(c, "postprocessing#transforms#2#keys", "image"),
        _set(c, "preprocessing#transforms#6", "@postprocessing#transforms#2"),
    ),
    "by-reference-into-nested": lambda s, c: (
        c.update(saver=_saver(s)),
        _set(c, "postprocessing#transforms#0", _compose("@saver")),
    ),
    "by-macro": lambda s, c: (c.update(saver=_saver(s)), _set(c, "preprocessing#transforms#3", "%saver")),
    "in-one-of": lambda s, c: _set(
        c, "postprocessing#transforms#0", {"_target_": "monai.transforms.OneOf", "transforms": [_saver(s)]}
    ),
    "as-SaveImageD": lambda s, c: _set(
        c, "postprocessing#transforms#0", _saver(s, _target_="monai.transforms.SaveImageD")
    ),
    "by-short-name": lambda s, c: _set(c, "postprocessing#transforms#0", _saver(s, _target_="SaveImageDict")),
    "by-full-name": lambda s, c: _set(
        c, "postprocessing#transforms#0", _saver(s, _target_="monai.transforms.io.dictionary.SaveImaged")
    ),
    "as-save-image": lambda s, c: _set(
        c, "preprocessing#transforms#2",
        {"_target_": "monai.transforms.SaveImage", "output_dir": str(s.victim), "separate_folder": False},
    ),
    "in-inferer": lambda s, c: c.update(inferer=_saver(s)),
    "in-place": lambda s, c: _set(c, "postprocessing#transforms#2#output_dir", str(s.victim)),
    "with-postfix-of-dots": lambda s, c: _set(
        c, "postprocessing#transforms#2#output_postfix", "../../../outside/victim/keep"
    ),
    "with-a-root": lambda s, c: _set(c, "postprocessing#transforms#2#data_root_dir", str(s.root)),
    "with-output-dir-of-all": lambda s, c: c.update(output_dir=str(s.victim)),
    "with-writer": lambda s, c: _set(c, "postprocessing#transforms#2#writer", "os.system"),
    "in-handlers": lambda s, c: c["handlers"].append(
        {"_target_": "monai.handlers.CheckpointSaver", "save_dir": str(s.victim), "save_dict": {"a": "@network"}}
    ),
    "twice": lambda s, c: (
        _set(c, "postprocessing#transforms#0", _saver(s, keys="pred")),
        _set(c, "postprocessing#transforms#0", _saver(s, keys="pred")),
    ),
    "by-expression": lambda s, c: c.update(
        saver=_saver(s), preprocessing="$@preprocessing_own.transforms + [@saver]", preprocessing_own=c["preprocessing"]
    ),
    "by-sum-of-lists": lambda s, c: c.update(
        a=c["preprocessing"]["transforms"], b=[_saver(s)],
        preprocessing={"_target_": "monai.transforms.Compose", "transforms": "$@a + @b"},
    ),
    "by-sum-with-postprocessing": lambda _, c: (
        _set(c, "postprocessing#transforms#2#keys", "image"),
        c.update(
            a=c["preprocessing"]["transforms"], b="@postprocessing#transforms",
            preprocessing={"_target_": "monai.transforms.Compose", "transforms": "$@a + @b"},
        ),
    ),
}  # fmt: skip


def _saving(spoil: Callable[[Scene, Config], object]) -> Callable[[Scene], list[Command]]:
    def build(scene: Scene) -> list[Command]:
        bundle = scene.bundle(inference=lambda config: spoil(scene, config))
        (bundle / "eval").symlink_to(scene.victim)
        folder = scene.work / "elsewhere"
        folder.mkdir()
        other = scene.bundle("unlinked", inference=lambda config: spoil(scene, config))
        images = scene.image("images/keep.nii.gz").parent
        return [scene.predict(bundle, images), scene.predict(other, images, folder=other)]

    return build


for _name, _spoil in SAVERS.items():
    CONFIGS.add(f"saver-{_name}", "a copy of the patient's image, or a mask, saved elsewhere", _saving(_spoil))


# Files that stand for, or beside, the config.


@CONFIGS("logging-conf", "MONAI reads configs/logging.conf, whose arguments are evaluated")
def _(scene: Scene) -> list[Command]:
    bundle = scene.bundle()
    text = f"""
    [loggers]
    keys=root
    [handlers]
    keys=h
    [formatters]
    keys=f
    [logger_root]
    handlers=h
    [handler_h]
    class=StreamHandler
    args=({scene.marker},)
    [formatter_f]
    format=x
    """
    (bundle / "configs" / "logging.conf").write_text(textwrap.dedent(text))
    scene.data()
    return [scene.check(bundle), scene.predict(bundle), scene.train(bundle, "--data", scene.work / "data")]


@CONFIGS("second-config-json", "an evil inference.json beside a good inference.yaml, of which check says nothing")
def _(scene: Scene) -> list[Command]:
    bundle = scene.bundle()
    write_config(
        bundle / "configs" / "inference.json", {"initialize": [f"${scene.marker}"], "run": [f"${scene.marker}"]}
    )
    return [scene.check(bundle, codes=REFUSED, said="inference.json"), scene.predict(bundle)]


@CONFIGS("second-config-yml", "an evil inference.yml and train.json beside the good ones")
def _(scene: Scene) -> list[Command]:
    bundle = scene.bundle()
    for name in ("inference.yml", "train.json", "metadata.yaml", "INFERENCE.YAML", "inference.yaml "):
        (bundle / "configs" / name).write_text(json.dumps({"run": [f"${scene.marker}"], "device": f"${scene.marker}"}))
    scene.data()
    return [scene.check(bundle), scene.predict(bundle), scene.train(bundle, "--data", scene.work / "data")]


@CONFIGS("packages-of-the-bundle", "modules in the bundle under the names of libraries, and a sitecustomize")
def _(scene: Scene) -> list[Command]:
    bundle = scene.bundle()
    (bundle / "scripts").mkdir()
    for name in (
        "sitecustomize",
        "torch",
        "monai",
        "numpy",
        "cc3d",
        "nibabel",
        "scripts/__init__",
        "conftest",
        "setup",
    ):
        (bundle / f"{name}.py").write_text(scene.module)
    (bundle / "evil.pth").write_text(f"import os; {scene.marker}\n")
    scene.data()
    return [
        scene.check(bundle),
        scene.predict(bundle, folder=bundle),
        scene.train(bundle, "--data", scene.work / "data", folder=bundle),
    ]


@CONFIGS("required-packages", "a package that metadata.json requires stands in the bundle and beside it")
def _(scene: Scene) -> list[Command]:
    bundle = scene.bundle(
        metadata=lambda config: config.update(
            required_packages_version={"evil": "1.0", "scripts.evil": "1", "../evil": "1", "evil; echo": "1"},
            optional_packages_version={"evil_too": "1.0"},
        )
    )
    (bundle / "scripts").mkdir()
    for folder in (bundle, bundle / "scripts", scene.work):
        for name in ("evil", "evil_too", "__init__"):
            (folder / f"{name}.py").write_text(scene.module)
    return [scene.check(bundle), scene.predict(bundle), scene.predict(bundle, folder=bundle)]


@CONFIGS("pycache-of-scripts", "bytecode beside no source, and newer than its source")
def _(scene: Scene) -> list[Command]:
    import py_compile

    bundle = scene.bundle(inference=lambda config: config.update(imports=["$import scripts.thing", "$import thing"]))
    (bundle / "scripts").mkdir()
    source = scene.root / "tmp" / "thing.py"
    source.write_text(scene.marker)
    for place in ("scripts/thing.pyc", "thing.pyc", "scripts/__pycache__/thing.cpython-311.pyc"):
        py_compile.compile(str(source), str(bundle / place))
    (bundle / "scripts" / "thing.py").write_text("x = 1\n")
    return [scene.check(bundle), scene.predict(bundle, codes=NOT_RUN)]


# Text that a parser stumbles over. Written as it is.

_DEEP = 20_000
TEXTS: dict[str, Callable[[Scene], bytes]] = {
    "yaml-python-apply": lambda s: f"a: !!python/object/apply:os.system [{json.dumps(s.shell)}]\n".encode(),
    "yaml-python-new": lambda s: f"a: !!python/object/new:os.system [{json.dumps(s.shell)}]\n".encode(),
    "yaml-python-name": lambda _: b"a: !!python/name:os.system\n",
    "yaml-python-module": lambda s: b"a: !!python/module:evil\n",
    "yaml-tag-prefix": lambda s: (
        f"%TAG ! tag:yaml.org,2002:python/object/apply:\n---\na: !os.system [{json.dumps(s.shell)}]\n".encode()
    ),
    "yaml-extend": lambda s: (
        "a: !!python/object/new:type\n  args: ['z', !!python/tuple [], {'extend': !!python/name:exec }]\n"
        f"  listitems: {json.dumps(s.marker)}\n"
    ).encode(),
    "yaml-billion-laughs": lambda _: (
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    ).encode(),
    "yaml-alias-of-itself": lambda _: b"network_def: &a [*a, *a]\n",
    "yaml-alias-of-itself-in-a-mapping": lambda _: b"network_def: &a {_target_: x, b: *a}\n",
    "yaml-merge-bomb": lambda _: (
        "a0: &a0 {x0: 1, y0: 2}\n"
        + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], x{n}: 1}}\n" for n in range(1, 9))
    ).encode(),
    "yaml-deep-lists": lambda _: b"a: " + b"[" * _DEEP + b"]" * _DEEP,
    "yaml-deep-mappings": lambda _: b"a: " + b"{a: " * _DEEP + b"1" + b"}" * _DEEP,
    "yaml-deep-block": lambda _: b"\n".join(b" " * n + b"a:" for n in range(3000)),
    "yaml-two-documents": lambda s: f"a: 1\n---\ndevice: ${s.marker}\n".encode(),
    "yaml-utf-16": lambda s: f"device: ${s.marker}\n".encode("utf-16"),
    "yaml-nul": lambda _: b"a: \0\n",
    "yaml-latin": lambda _: b"a: \xff\xfe\xe4\n",
    "yaml-of-a-number": lambda _: b"42\n",
    "yaml-of-a-list": lambda _: b"- 1\n- 2\n",
    "yaml-empty": lambda _: b"",
    "yaml-keys-of-lists": lambda _: b"? [1, 2]\n: 3\n",
    "yaml-keys-of-numbers": lambda _: b"1: 2\n2.5: 3\nnull: 4\ntrue: 5\n2024-01-01: 6\n",
    "yaml-huge-number": lambda _: b"a: " + b"9" * 100_000 + b"\n",
    "yaml-huge-octal": lambda _: b"a: 0x" + b"f" * 1_000_000 + b"\n",
    "yaml-sexagesimal": lambda _: b"a: 1" + b":59" * 50_000 + b"\n",
    "yaml-dates": lambda _: b"a: 0000-00-00\nb: 2024-13-45 99:99:99\n",
    "yaml-long-line": lambda _: b"a: " + b"x" * 5_000_000 + b"\n",
    "yaml-spaces": lambda _: b"a:" + b" " * 5_000_000 + b"\n" + b"\n" * 3_000_000,
    "yaml-anchors": lambda _: b"".join(b"a%d: &x%d 1\n" % (n, n) for n in range(30_000)),
    "yaml-45000-keys": lambda _: b"".join(b"key_%d: {a: 1}\n" % n for n in range(45_000)),
    "yaml-45000-references": lambda _: b"".join(b"key_%d: '@key_%d'\n" % (n, n + 1) for n in range(45_000)),
    "json-deep-lists": lambda _: b'{"a": ' + b"[" * _DEEP + b"]" * _DEEP + b"}",
    "json-duplicate-keys": lambda s: b'{"device": "cpu", "device": "$' + json.dumps(s.marker)[1:-1].encode() + b'"}',
    "json-nan": lambda _: b'{"a": NaN, "b": Infinity, "c": -Infinity}',
    "json-surrogates": lambda _: b'{"a": "\\ud800", "\\udfff": 1}',
    "json-huge-number": lambda _: b'{"a": ' + b"9" * 100_000 + b"}",
}


def _text(name: str, text: Callable[[Scene], bytes]) -> Callable[[Scene], list[Command]]:
    def build(scene: Scene) -> list[Command]:
        bundle = scene.bundle()
        config = bundle / "configs" / "inference.yaml"
        content = text(scene)
        if name.startswith("json"):
            config.unlink()
            config = config.with_suffix(".json")
        (scene.work / "evil.py").write_text(scene.module)
        config.write_bytes(content)
        # A prefix alone would be refused for what lacks, so the same text also stands before a sound config.
        sound = (scene.base.bundle / "configs" / "inference.yaml").read_bytes()
        more = scene.bundle("more")
        if name.startswith("yaml"):
            (more / "configs" / "inference.yaml").write_bytes(content + b"\n" + sound)
        return [scene.check(bundle, codes=REFUSED), scene.check(more, cpu_seconds=15), scene.predict(more)]

    return build


for _name, _content in TEXTS.items():
    CONFIGS.add(f"text-{_name}", "a config that a parser stumbles over", _text(_name, _content))


@CONFIGS("metadata-deep", "metadata.json of twenty thousand nested lists")
def _(scene: Scene) -> list[Command]:
    bundle = scene.bundle()
    (bundle / "configs" / "metadata.json").write_bytes(b'{"a": ' + b"[" * _DEEP + b"]" * _DEEP + b"}")
    return [scene.check(bundle, codes=REFUSED), scene.predict(bundle)]


@CONFIGS("metadata-of-wrong-kinds", "metadata.json whose every value is of another kind")
def _(scene: Scene) -> list[Command]:
    def spoil(config: Config) -> None:
        for key in config:
            config[key] = [1, {"a": None}]
        config["network_data_format"] = {"inputs": "x", "outputs": [1]}

    return both(scene, spoil, "metadata")


@CONFIGS("metadata-of-many-channels", "metadata.json that names a hundred thousand labels")
def _(scene: Scene) -> list[Command]:
    def spoil(config: Config) -> None:
        names = {str(number): f"label {number}" for number in range(100_000)}
        config["network_data_format"]["outputs"]["pred"] |= {"channel_def": names, "num_channels": 10**9}
        config["label_table"] = names

    return both(scene, spoil, "metadata")
