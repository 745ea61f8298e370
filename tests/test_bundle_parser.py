"""Building parts of a config: by name, from what was judged, with errors that a person can use."""

from __future__ import annotations

import codecs
import errno
import io
import json
import random
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml

from volseg.bundle.folder import Bundle, open_bundle
from volseg.bundle.parser import BundleParser, load_weights
from volseg.bundle.trust import judge, record_trust, require_trust
from volseg.cli.main import main
from volseg.errors import BundleError, DataSetError, TrustError, VolsegError

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import MakeBundle, MakePlan

HOSTILE_NAMES = [
    "data#1",
    "@data",
    "me@home",
    "50%",
    "%data",
    "$HOME",
    "it's",
    'say "x"',
    "a\nb",
    "\\x41",
    "\N{SNOWMAN}",
    "import os",
]


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Bundle:
    return open_bundle(make_bundle())


@pytest.fixture
def trusted(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Adds lines to the inference config, trusts the bundle, and gives a parser."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)

    def make(**parts: object) -> BundleParser:
        with (bundle.root / "configs" / "inference.yaml").open("a") as file:
            file.write(yaml.safe_dump(parts))
        record_trust(judge(bundle))
        return BundleParser(bundle, "inference", {})

    return make


def refusal(parser: BundleParser, key: str) -> BundleError:
    with pytest.raises(BundleError) as caught:
        parser.build(key)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 600
    return caught.value


def test_parts_are_built_once_and_shared(bundle: Bundle) -> None:
    parser = BundleParser(bundle, "inference", {})
    network = parser.build("network_def")
    assert isinstance(network, torch.nn.Module)
    assert parser.build("network_def") is network
    assert parser.build("network") is network


def test_what_a_config_has(bundle: Bundle) -> None:
    parser = BundleParser(bundle, "train", {})
    assert parser.has("train#trainer")
    assert not parser.has("train#nothing")
    assert not parser.has("max_epochs#deeper")
    assert parser.plain("batch_size") == 2
    assert parser.plain("nothing") is None


def test_a_missing_part_and_a_missing_config(bundle: Bundle) -> None:
    error = refusal(BundleParser(bundle, "inference", {}), "train#trainer")
    assert error.code == "missing-part"
    assert "inference.yaml has no 'train#trainer'" in error.message
    (bundle.root / "configs" / "train.yaml").unlink()
    with pytest.raises(BundleError) as caught:
        BundleParser(bundle, "train", {})
    assert caught.value.code == "no-config"


def test_an_untrusted_bundle_is_refused_before_anything_is_built(bundle: Bundle) -> None:
    (bundle.root / "configs" / "train.yaml").write_text("x: $1\n")
    with pytest.raises(TrustError):
        BundleParser(bundle, "inference", {})


def test_overrides_stand_before_anything_is_built(bundle: Bundle) -> None:
    device = torch.device("meta")
    parser = BundleParser(bundle, "inference", {"device": device, "fresh": [1, 2]})
    assert next(parser.build("network").parameters()).device == device
    assert parser.build("fresh") == [1, 2]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_path_arrives_as_it_is(make_bundle: MakeBundle, name: str) -> None:
    """MONAI reads ``#`` anywhere, and ``@`` and ``%`` in front, as places in the config, and ``$`` as code."""
    root = make_bundle(folder=name)
    given = f"/somewhere/{name}"
    parser = BundleParser(open_bundle(root), "inference", {"dataset_dir": given, "plain": name})
    assert parser.build("dataset_dir") == given
    assert parser.build("plain") == name
    assert parser.build("bundle_root") == str(root.resolve())
    assert parser.build("output_dir") == f"{root.resolve()}/eval"
    assert parser.build("datalist") == []


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "$__import__('os').getcwd() + '/"])
def test_the_name_of_an_image_is_never_code(bundle: Bundle, name: str) -> None:
    """As where one stands in the data set, and its name begins the path."""
    parser = BundleParser(bundle, "inference", {})
    parser.put("cases", [{"image": name, "label": [name, "a.nii"]}])
    assert parser.build("cases") == [{"image": name, "label": [name, "a.nii"]}]


def test_what_is_judged_is_what_is_built(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is on the disk once the judgement begins."""
    path = bundle.root / "configs" / "inference.yaml"
    really_judge, canary = require_trust, tmp_path / "canary"

    def judge_and_swap(bundle: Bundle) -> object:
        verdict = really_judge(bundle)
        path.write_text(yaml.safe_dump({"network_def": f"$__import__('pathlib').Path({str(canary)!r}).touch()"}))
        return verdict

    monkeypatch.setattr("volseg.bundle.parser.require_trust", judge_and_swap)
    assert isinstance(BundleParser(bundle, "inference", {}).build("network_def"), torch.nn.Module)
    assert not canary.exists()


def test_building_leaves_the_judged_data_alone(bundle: Bundle) -> None:
    parser = BundleParser(bundle, "inference", {"device": "cpu"})
    before = yaml.safe_dump(dict(parser.verdict.configs["inference"].content))
    parser.build("postprocessing")
    assert yaml.safe_dump(dict(parser.verdict.configs["inference"].content)) == before


def test_a_trusted_bundle_imports_its_scripts_and_stays_trusted(bundle: Bundle, trusted: Any) -> None:
    (bundle.root / "scripts_of_this_test").mkdir()
    (bundle.root / "scripts_of_this_test" / "__init__.py").write_text("")
    (bundle.root / "scripts_of_this_test" / "net.py").write_text("def make(width):\n    return [width]\n")
    parser = trusted(own={"_target_": "scripts_of_this_test.net.make", "width": 3})
    assert parser.build("own") == [3]
    assert require_trust(bundle).trusted
    assert not list(bundle.root.rglob("__pycache__"))


def test_an_honest_bundle_gets_no_place_on_the_path_of_modules(bundle: Bundle) -> None:
    BundleParser(bundle, "inference", {}).build("network_def")
    assert str(bundle.root) not in sys.path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"strides": [[2, 2, 2]]}, "Error: "),
        ({"filters": "many"}, "Error: "),
        ({"norm_name": "NOTHING"}, "Error: "),
        ({"in_channels": "@nowhere"}, "nowhere"),
        ({"in_channels": "@network_def"}, "circular"),
    ],
)
def test_a_wrong_argument_is_told_in_one_line_that_keeps_its_cause(
    bundle: Bundle, change: dict[str, object], says: str
) -> None:
    path = bundle.root / "configs" / "inference.yaml"
    config = yaml.safe_load(path.read_text())
    config["network_def"].update(change)
    path.write_text(yaml.safe_dump(config))
    record_trust(judge(bundle))  # some are beyond the vocabulary
    error = refusal(BundleParser(bundle, "inference", {}), "network_def")
    assert error.code == "cannot-build"
    assert "configs/inference.yaml: 'network_def' can't be built: " in error.message
    assert says in error.message
    assert error.__cause__ is not None
    assert not isinstance(error.__cause__, VolsegError)


def raising(what: str) -> str:
    return f"$(_ for _ in ()).throw({what})"


@pytest.mark.parametrize(
    ("what", "code", "says", "hides"),
    [
        ("ValueError('too few\\nJane Doe')", "cannot-build", "ValueError: too few. ", "Jane"),
        ("ValueError('no image in /data/Jane Doe/scan 1')", "cannot-build", "ValueError. ", "Jane"),
        ("RuntimeError('can not read DOE_JANE.nii.gz')", "cannot-build", "RuntimeError. ", "JANE"),
        ("FileNotFoundError(2, 'gone', 'DOE_JANE')", "missing-file", "a file outside of the bundle", "JANE"),
        ("ValueError('\\x1b[31mred')", "cannot-build", "ValueError: \\x1b[31mred. ", "\x1b"),
        ("ValueError('x' * 5000)", "cannot-build", "xxx [...]. ", "x" * 300),
        ("KeyError('lr')", "cannot-build", "KeyError: 'lr'. ", "\n"),
        ("ModuleNotFoundError('no', name='tensorboard')", "missing-package", "needs the Python package tensorboard", "\n"),
        ("ModuleNotFoundError('no', name='evil_pkg')", "missing-package", "volseg doesn't know where to get it", "pip install"),
        ("RecursionError('deep')", "cannot-build", "RecursionError: deep", "\n"),
    ],
)  # fmt: skip
def test_errors_out_of_a_config_say_what_helps_and_quote_no_file(
    trusted: Any, what: str, code: str, says: str, hides: str
) -> None:
    error = refusal(trusted(part=raising(what)), "part")
    assert error.code == code
    assert says in error.message
    assert hides not in error.message


def test_a_module_that_breaks_while_imported_is_told(bundle: Bundle, trusted: Any) -> None:
    (bundle.root / "broken_of_this_test.py").write_text("raise ValueError('half done')\n")
    error = refusal(trusted(part={"_target_": "broken_of_this_test.Net"}), "part")
    assert "ValueError: half done" in error.message


def test_what_a_part_refuses_in_volsegs_own_words_is_passed_on(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "data" / "imagesTr").mkdir(parents=True)
    overrides = {"dataset_dir": str(tmp_path / "data"), "cases_record": None}
    parser = BundleParser(bundle, "train", overrides)
    with pytest.raises(DataSetError) as caught:
        parser.build("train#dataset")
    assert "can't be built" not in caught.value.message
    assert caught.value.__cause__ is not None


def test_full_memory_and_full_disks_are_not_the_configs_fault(trusted: Any) -> None:
    parser = trusted(
        memory=raising("MemoryError()"),
        disk=raising(f"OSError({errno.ENOSPC}, 'full')"),
        stop=raising("KeyboardInterrupt()"),
    )
    with pytest.raises(MemoryError):
        parser.build("memory")
    with pytest.raises(OSError, match="full") as caught:
        parser.build("disk")
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(KeyboardInterrupt):
        parser.build("stop")


def test_debug_shows_the_cause(
    bundle: Bundle, trusted: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trusted(network_def=raising("ValueError('the very cause')"))
    torch.save({}, bundle.model_path)
    record_trust(judge(bundle))
    (tmp_path / "scan.nii.gz").write_bytes(b"")
    arguments = ["predict", str(bundle.root), str(tmp_path / "scan.nii.gz"), str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert main([*arguments, "--debug"]) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "ValueError: the very cause" in shown


def test_weights_are_read_as_tensors(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"a": torch.arange(3)}, path)
    assert load_weights(path)["a"].tolist() == [0, 1, 2]
    with pytest.raises(BundleError) as caught:
        load_weights(tmp_path / "absent.pt")
    assert caught.value.code == "no-weights"


def _rezipped(raw: bytes) -> bytes:
    """The same archive, compressed: a few bytes could unfold to any size."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return out.getvalue()


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({f"layer{number}": torch.zeros(5) for number in range(5)}, buffer)
    raw = buffer.getvalue()
    path = tmp_path / "model.pt"
    for content in (b"", b"PK", b"\x80\x02.", b"not weights", raw[: len(raw) // 2], _rezipped(raw), b"\x00" * 4096):
        path.write_bytes(content)
        with pytest.raises(BundleError) as caught:
            load_weights(path)
        assert caught.value.code == "bad-weights"


class _Call:
    """A call that a pickle makes."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def _doubled(times: int) -> Any:
    return _Call(codecs.encode, _doubled(times - 1), "hex") if times else _Call(codecs.encode, "x", "latin1")


@pytest.mark.parametrize("make", [lambda: _Call(bytearray, 2**26), lambda: _doubled(26)], ids=["zeros", "doubled"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_few_bytes_of_weights_never_unfold(tmp_path: Path, make: Callable[[], Any], *, zipped: bool) -> None:
    path = tmp_path / "model.pt"
    torch.save({"layer": torch.zeros(2), "more": make()}, path, _use_new_zipfile_serialization=zipped)
    assert path.stat().st_size < 10_000
    tracemalloc.start()
    try:
        with pytest.raises(BundleError) as caught:
            load_weights(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.code == "bad-weights"
    assert peak < 2**24
    with pytest.raises(BundleError):  # a later file is refused as well, and a sound one is read
        load_weights(path)
    torch.save({"layer": torch.zeros(2), "note": b"\x00\xff"}, path, _use_new_zipfile_serialization=zipped)
    assert load_weights(path)["note"] == b"\x00\xff"


def test_mutated_weights_give_tensors_or_a_sentence(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"layer": torch.arange(6.0).reshape(2, 3)}, buffer)
    raw, path, dice, refused = buffer.getvalue(), tmp_path / "model.pt", random.Random(5), 0
    for _ in range(150):
        damaged = bytearray(raw)
        for _ in range(dice.randint(1, 12)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged)
        try:
            load_weights(path)
        except BundleError as error:
            assert error.code == "bad-weights"  # noqa: PT017  both ends are right
            refused += 1
    assert refused > 20


def test_every_part_of_a_planned_bundle_builds(make_bundle: MakeBundle, make_plan: MakePlan) -> None:
    parser = BundleParser(open_bundle(make_bundle(make_plan())), "inference", {})
    for part in ("network_def", "preprocessing", "inferer", "postprocessing"):
        assert callable(parser.build(part))


PALETTE: tuple[Any, ...] = (
    "$1", " $1", "$import os", "@network_def", "@imports#0", "@imports", "@run#0", "@evaluator", "@#run", "@##device",
    "%network_def", "%#network_def", "%##imports", "@x::y", "@x.y", "x@#y", "os.system", "$@network_def.to(@device)",
    "$@evaluator.run()", "$[{'image': i} for i in @datalist]", "$@train#trainer.run()", "#", "::", "@", "$", "%", "",
    {"_target_": "os.system", "command": "true"}, {"_target_": "@device"}, {"_target_": "monai.transforms.Compose"},
    {"_target_": "monai.transforms.LoadImaged", "keys": "image", "reader": "NibabelReader"}, {"_mode_": "debug"},
    {"_target_": "monai.data.Dataset", "data": "@datalist"}, {"x#y": "$1"}, {"x::y": 1}, {"_requires_": "$1"},
    ["$1"], ["@device"], [["%device"]], {"_desc_": "$@evaluator.run()"}, {1: "@device"}, None, 5,
)  # fmt: skip


def _containers(tree: Any) -> list[Any]:
    found = [tree] if isinstance(tree, (dict, list)) and tree else []
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        found += _containers(value)
    return found


def test_whatever_passes_the_lint_runs_words_of_the_vocabulary_alone(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Configs with random parts swapped; MONAI is watched for what it would evaluate and call."""
    from copy import deepcopy

    from monai.bundle import config_item

    from volseg.bundle.grammar import Exactly
    from volseg.bundle.lint import lint_config
    from volseg.bundle.vocabulary import CHANNEL_FILES, KINDS, TARGETS

    words = {form.value for kind in KINDS.values() for form in kind.values if isinstance(form, Exactly)}

    ran: set[str] = set()
    called: set[str] = set()

    class Watched(config_item.ConfigExpression):  # type: ignore[misc]
        def __init__(self, config: Any, id: str = "", globals: dict[str, Any] | None = None) -> None:
            super().__init__(config=config, id=id, globals=globals)
            self.text = config

        def evaluate(self, globals: Any = None, locals: Any = None) -> object:
            del globals, locals
            ran.add(self.text)
            return ["evaluated"]

    def call(target: Any, mode: Any, **arguments: Any) -> object:
        del arguments
        called.add(str(target))
        assert mode == "default"
        return ["instantiated"]

    monkeypatch.setattr("monai.bundle.config_parser.ConfigExpression", Watched)
    monkeypatch.setattr(config_item, "instantiate", call)
    original = {name: bundle.read_config(name) for name in ("inference", "train")}
    for name, config in original.items():  # JSON is read many times faster
        (bundle.root / "configs" / f"{name}.yaml").unlink()
        (bundle.root / "configs" / f"{name}.json").write_text(json.dumps(config))
    dice, passed = random.Random(11), 0
    for _ in range(6000):
        if passed == 30:
            break
        name = dice.choice(("inference", "train"))
        changed: Any = deepcopy(original[name])
        for _ in range(dice.randint(1, 2)):
            place = dice.choice(_containers(changed))
            # Odd things, and parts of a config in other places.
            part = deepcopy(dice.choice(PALETTE) if dice.random() < 0.5 else dice.choice(_containers(original)))
            if isinstance(place, list):
                place[dice.randrange(len(place))] = part
            else:
                place[dice.choice([*place, "extra"])] = part
        if lint_config(name, changed):
            continue
        passed += 1
        path = bundle.config_path(name)
        path.write_text(json.dumps(changed))
        parser = BundleParser(bundle, name, {})
        path.write_text(json.dumps(original[name]))
        for key in changed:
            try:
                parser.build(str(key))
            except BundleError:
                continue
    assert passed > 20
    assert all(text in words or CHANNEL_FILES.fullmatch(text) for text in ran), ran
    assert called <= {target for found in TARGETS.values() for target in found}
    assert len(ran) > 5
    assert len(called) > 10
