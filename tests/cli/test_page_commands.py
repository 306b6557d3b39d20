"""The shell commands of the pages, as they stand there: run on small data, or parsed."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
import zipfile

import pytest
import timm
import torch
import torchvision
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image
from safetensors.torch import save_file
from test_help import PROGRAMS, ROOT, parse

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "csrc" / "README.md"]
MAKEFILE = (ROOT / "Makefile").read_text()
# How the commands begin that are parsed only, by the reason.
NOT_RUN = {
    "set-up, tests, and targets that other tests or CI run": [
        *("make", "git clone", ". .venv/bin/activate", "pip install"),
        *("python -m pytest", ".venv/bin/python -m pytest"),
    ],
    "needs a network": [
        *("python3 -m pip wheel", "python3 -m pip download"),
        "python tools/convert_weights.py detectron2://ImageNetPretrained/MSRA/R-50.pkl",
    ],
    "needs several GPUs or machines": [
        *("torchrun", "sbatch docs/recipes/slurm.sh", "python tools/train_net.py --num-gpus 8"),
        "python tools/train_net.py --eval-only --num-gpus 8",
        "python tools/export_testdev.py --alg softpool_retinanet_r50 --num-gpus 8",
    ],
    "needs data that are not ours to give": [
        *("python tools/similarity.py --dataset urban100", "softpool-tables 7 --data hacs"),
        "python tools/tables.py 2 --data imagenet",
        "softpool-train-classifier configs/video/hacs_paper.yaml",
        "softpool-train-classifier configs/video/ucf101.yaml",
    ],
    "trains for minutes to days": [
        "python tools/compare.py --auto --output output/trees",
        "python tools/compare.py --output output/r50",
        "python tools/compare.py --output output/coco_retinanet_R_50",
        "python tools/compare.py --output output/windows",
        "python tools/compare.py --output output/trees",
        "python tools/train_net.py --config-file CONFIG",
        "python tools/train_net.py --config-file configs/COCO-Detection/"
        "retinanet_softpool_R_50_FPN_1x.yaml --train-json trees/train.json",
        "python tools/train_net.py --config-file configs/demo/"
        "digits_retinanet_softpool_R_18_FPN.yaml MODEL.WEIGHTS",
        "python tools/train_classifier.py configs/classification/digits_softpool.yaml",
        *("benchmarks/pretraining.sh", "DATA=fashion_mnist benchmarks/pretraining.sh"),
        "benchmarks/pretrained_study.sh",
        "python tools/study.py configs/studies/plain_scenes.yaml",
        "python tools/study.py configs/studies/poolings.yaml",
        "python tools/study.py configs/studies/hard_scenes.yaml",
        "python tools/tables.py 4 --networks resnet18 --seeds 1 2 3",
        "python tools/tables.py 5 --networks resnet18 --poolings softpool lip --seeds 1 2 3",
        "python tools/tables.py 5 --networks resnet18 googlenet --seeds 1 2 3",
        "python tools/tables.py 6 --seeds 1 2 3",
        *("python tools/tables.py 5 --data fashion_mnist", "softpool-tables 7 --seeds 1 2 3"),
    ],
    "needs a study's trainings": ["python benchmarks/study_records.py keep"],
    "writes a committed file": ["python benchmarks/study_records.py compare"],
    "measures for minutes": [
        *("python benchmarks/bench_pooling.py", "python benchmarks/bench_detector.py"),
        "SOFTPOOL_CPU_CAPABILITY=avx2 python benchmarks/bench_pooling.py",
    ],
}
EXCEPTIONS = [start for starts in NOT_RUN.values() for start in starts]
# What each program writes that is run; `{}` is the command's last word.
WRITTEN = {
    "check_data": "output/data/data.html",
    "compare": "output/*/report.html",
    "convert_weights": "{}",
    "export": "exported/model.onnx",
    "export_testdev": "",  # Nothing: it validates.
    "similarity": "output/similarity/similarity.html",
    "tables": "output/tables/*/table_*.md",
    "visualize": "{}",
}
# What takes more than some three seconds, its files included: a detector has to be trained.
SLOW = [
    *("python tools/export.py", "python tools/similarity.py", "python tools/visualize.py"),
    "python tools/convert_weights.py --stem-pool softpool --convention torchvision",
    "python tools/tables.py 2 --data digits --networks resnet18 --report",
    *("softpool-export", "softpool-tables 7 --report"),
]


def commands_of(page):
    """Words of the commands in a page's shell blocks, which are those of bash or no language."""
    blocks = re.findall(r"^```(.*)\n((?:.*\n)*?)^```", page.read_text(), re.MULTILINE)
    text = "".join(block for language, block in blocks if language in ("", "bash"))
    lines = [shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines()]
    return [words for words in lines if words]


def starts_of(command, starts=EXCEPTIONS):
    return {start for start in starts if f"{command} ".startswith(f"{start} ")}


COMMANDS = dict.fromkeys(shlex.join(words) for page in PAGES for words in commands_of(page))


@pytest.mark.parametrize("page", list(filter(commands_of, PAGES)), ids=lambda page: page.name)
def test_the_commands_of_the_pages_parse(page, monkeypatch):
    targets = re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)
    for words in commands_of(page):
        own = r"(configs|tools|benchmarks|docs|tests)/"
        for file in [word for word in words if re.match(own, word)]:
            assert (ROOT / file).exists(), file
        tools = [index for index, word in enumerate(words) if word.startswith("tools/")]
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= {*targets}, words
        elif words[0] in PROGRAMS:
            parse(*words[:1], words[1:], monkeypatch)
        elif tools:
            module = re.search(r"softpool_det\.cli\.\w+", (ROOT / words[tools[0]]).read_text())[0]
            (name,) = [name for name, function in PROGRAMS.items() if f"{module}:" in function]
            parse(name, words[tools[0] + 1 :], monkeypatch)


def test_every_exception_is_in_a_page():
    assert set().union(*map(starts_of, COMMANDS)) == {*EXCEPTIONS}


def write_photos(folder, source, part):
    """A part of the digit scenes as COCO's JSON, its images together with the others'."""
    data = json.loads((source / "annotations.json").read_text())
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for image in data["images"]:
        name = f"{part}_{image['file_name']}"
        shutil.copyfile(source / "images" / image["file_name"], folder / "photos" / name)
        image["file_name"] = name
    (folder / f"{part}.json").write_text(json.dumps(data))
    return data


def found(data, shift):
    """Detections of every object, some pixels off."""
    entries = []
    for number, entry in enumerate(data["annotations"]):
        x, y, *size = entry["bbox"]
        place = {key: entry[key] for key in ("image_id", "category_id")}
        entries.append({**place, "bbox": [x + shift, y, *size], "score": 0.9 - number / 100})
    return json.dumps(entries)


def write_results(folder, truth):
    (folder / "instances_val2017.json").write_text(json.dumps(truth))
    (folder / "val2017").symlink_to(folder / "trees" / "photos")
    names = ["one", "other", "stock", "exported"]
    names += [f"{arm}_{n}" for arm in ("stock", "other") for n in "123"]
    for shift, name in enumerate(names):
        (folder / f"{name}.json").write_text(found(truth, shift))
    name = "detections_test-dev2017_NAME_results"
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as file:
        file.writestr(f"{name}.json", found(truth, 0))


def write_weights(folder, program_here):
    """ResNet-18s in all: a name is only a name, and 50 layers take three times as long."""
    weights = torchvision.models.resnet18().state_dict()
    torch.save(weights, folder / "resnet18-f37072fd.pth")
    (folder / "resnet50-11ad3fa6.pth").hardlink_to(folder / "resnet18-f37072fd.pth")
    # As a training program saves them.
    parallel = {f"module.{key}": value for key, value in weights.items()}
    torch.save({"state_dict": parallel}, folder / "theirs.pth")
    for name in ("their_resnet18", "their_resnet50"):
        (folder / f"{name}.pth").hardlink_to(folder / "theirs.pth")
    save_file(timm.create_model("resnet18").state_dict(), folder / "model.safetensors")
    target = "weights/resnet50_softpool.safetensors"
    program_here("tools/convert_weights.py", "--stem-pool", "softpool", "theirs.pth", target)


@pytest.fixture(scope="module")
def working_folder(tmp_path_factory, small_datasets, datasets_in, program_here, one_thread):
    """A folder with the files that the commands name: small, but real."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "configs").symlink_to(ROOT / "configs")
    for part in ("train", "val"):
        truth = write_photos(folder / "trees", small_datasets / f"digit_scenes_{part}", part)
    (folder / "photographs").mkdir()
    with Image.open(folder / "trees" / "photos" / truth["images"][0]["file_name"]) as image:
        for name in ("photo.jpg", "picture.png", "photographs/1.png", "photographs/2.png"):
            image.save(folder / name)
    annotations = folder / "datasets" / "coco" / "annotations"
    annotations.mkdir(parents=True)
    info = annotations / "image_info_test-dev2017.json"
    info.write_text(json.dumps({**truth, "annotations": []}))
    for catalog in (DatasetCatalog, MetadataCatalog):
        catalog.pop("coco_2017_test-dev")
    register_coco_instances("coco_2017_test-dev", {}, str(info), "")
    write_results(folder, truth)
    with datasets_in(small_datasets), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_weights(folder, program_here)
        yield folder


@pytest.fixture(scope="module")
def trained(working_folder, program_here):
    """A detector that was trained for a moment, wherever the commands look for one."""
    run = working_folder / "output" / "trees" / "SoftPool" / "seed_1"
    options = "--train-json trees/train.json --train-images trees/photos "
    options += "--val-json trees/val.json --val-images trees/photos "
    options += "SOLVER.MAX_ITER 2 SOLVER.STEPS () SOLVER.IMS_PER_BATCH 2 MODEL.DEVICE cpu"
    config = "configs/demo/digits_retinanet_softpool_R_18_FPN.yaml"
    given = [*options.split(), "OUTPUT_DIR", run]
    program_here("tools/train_net.py", "--config-file", config, *given)
    demo = working_folder / "output" / "demo" / "digits_retinanet" / "SoftPool"
    shutil.copytree(run, demo / "seed_1")
    shutil.copy(run / "config.yaml", working_folder)
    for place in (working_folder, working_folder / "output"):
        shutil.copy(run / "model_final.pth", place)


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def cases():
    slow = [pytest.mark.slow, pytest.mark.timeout(1800)]
    for command in itertools.filterfalse(starts_of, COMMANDS):
        marks = slow if starts_of(command, SLOW) else []
        yield pytest.param(command, marks=marks, id=command.removeprefix("python tools/")[:70])


@pytest.mark.parametrize("command", list(cases()))
def test_the_command_of_a_page_runs(command, working_folder, program_here, request):
    words = shlex.split(command)
    tool = words[0].removeprefix("softpool-").replace("-", "_")
    if words[0] == "python":
        tool, words = words[1].removeprefix("tools/").removesuffix(".py"), words[1:]
    assert tool in WRITTEN, "run it, with an entry in WRITTEN, or say why not in NOT_RUN"
    if re.search("seed_1|model_final", command):
        request.getfixturevalue("trained")
    before = times(working_folder)
    try:
        program_here(f"tools/{tool}.py", *words[1:])
    except SystemExit as end:
        if end.code:
            pytest.fail(str(end.code))
    new = {path for path, time in times(working_folder).items() if before.get(path) != time}
    if written := WRITTEN[tool].format(words[-1]):
        assert {path for path in new if path.match(written)}, new
