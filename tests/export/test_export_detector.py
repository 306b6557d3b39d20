"""Exported detectors beside PyTorch, and what a Predictor makes of them."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from detectron2.structures import Boxes, Instances

import softpool_det
from softpool_det.coco.reading import read_detections, read_ground_truth
from softpool_det.export.parity import Differences, check_export, load_files, table
from softpool_det.export.write import export_detector
from softpool_det.training.exported import OUTPUTS

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),
    pytest.mark.usefixtures("one_thread"),
]
LEARNED = ("MODEL.STEM_POOL.LEARN_BETA", "channel")


def check_same(found, least=50):
    expected = found.pop("pytorch")
    assert found
    for differences in found.values():
        assert differences.detections == expected.detections >= least
        assert differences.unpaired == 0
        assert differences.excess({}) == []


def check_equal_instances(got, want):
    """Equal scores may come in another order."""
    assert got.image_size == want.image_size
    differences = Differences()
    differences.add(want, got)
    assert differences.detections > 0
    assert differences.unpaired == 0
    assert differences.excess({}) == []


def check_batch(made):
    """The file's images do not meet, its padding is not looked at, and PyTorch finds the same."""
    generator = np.random.default_rng(0)
    sizes = np.array([[64, 96], [64, 128], [32, 40], [64, 128]])
    images = generator.integers(0, 256, (4, 3, 64, 128)).astype(np.uint8)
    session = onnxruntime.InferenceSession(made.folder / "model.onnx")

    def find(images, sizes):
        found = session.run(None, {"images": images, "image_sizes": sizes})
        return dict(zip(made.manifest["outputs"], found, strict=True))

    found = find(images, sizes)
    padded = images.copy()
    padded[0, :, :, 96:], padded[2, :, 32:], padded[2, :, :, 40:] = 0, 255, 0
    for name, values in find(padded, sizes).items():
        np.testing.assert_array_equal(values, found[name])
    numbers = found.pop("image_indices")
    assert set(numbers) == set(range(4))
    assert (np.diff(numbers) >= 0).all()
    batch = [
        {"image": torch.from_numpy(image[:, :height, :width]), "height": height, "width": width}
        for image, (height, width) in zip(padded, sizes.tolist(), strict=True)
    ]
    with torch.inference_mode():
        expected = made.predictor.model(batch)
    for number, (size, want) in enumerate(zip(sizes, expected, strict=True)):
        own = {name: values[numbers == number] for name, values in found.items()}
        alone = find(images[[number]], size[None])
        assert not alone.pop("image_indices").any()
        for name, values in own.items():
            atol = 0.1 if name == "boxes" else 1e-4
            np.testing.assert_allclose(alone[name], values, atol=atol, rtol=0)
        instances = Instances(tuple(size), pred_boxes=Boxes(torch.from_numpy(own["boxes"])))
        instances.scores, instances.pred_classes = map(
            torch.from_numpy, (own["scores"], own["classes"])
        )
        fields = want["instances"].get_fields()
        fields.pop("pred_masks", None)
        check_equal_instances(instances, Instances(tuple(size), **fields))


@pytest.fixture(scope="module")
def retinanet(make, images):
    """SoftPool with learned temperatures."""
    config = "digits_retinanet_softpool_R_18_FPN"
    return make(config, ["onnx", "torchscript"], images, *LEARNED)


def test_retinanet(retinanet):
    check_same(dict(retinanet.found))
    graph = onnx.load(retinanet.folder / "model.onnx").graph
    assert {node.domain for node in graph.node} == {""}
    assert [x.name for x in graph.input] == ["images", "image_sizes"]
    assert [x.name for x in graph.output] == ["boxes", "classes", "scores", "image_indices"]
    dims = graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, "height", "width"]


def test_mask_rcnn_with_a_frozen_norm(make, images):
    """The stem is one operator."""
    options = ("MODEL.RESNETS.NORM", "FrozenBN")
    got = make("digits_mask_rcnn_softpool_R_18_FPN", ["onnx"], images, *options)
    check_same(got.found)
    assert list(got.manifest["outputs"]) == [*OUTPUTS]
    path = images[0]
    want, found = got.predictor(path), softpool_det.Predictor(got.folder)(path)
    check_equal_instances(found, want)
    assert (found.pred_masks != want.pred_masks).float().mean() < 1e-3
    graph = onnx.load(got.folder / "model.onnx").graph
    aligned = [node for node in graph.node if node.op_type == "RoiAlign"]
    modes = {a.s for node in aligned for a in node.attribute if "mode" in a.name}
    assert b"half_pixel" in modes
    check_batch(got)


def test_batch(retinanet):
    check_batch(retinanet)


def test_predictor_of_an_exported_detector(retinanet, images):
    want = retinanet.predictor.coco(list(images.values()), list(images))
    for source in (retinanet.folder, retinanet.folder / "model.onnx"):
        exported = softpool_det.Predictor(source, batch_size=2)
        got = exported.coco(list(images.values()), list(images))
        keys = [[(x["image_id"], x["category_id"]) for x in found] for found in (got, want)]
        assert sorted(keys[0]) == sorted(keys[1])
        assert [x["score"] for x in got] == pytest.approx([x["score"] for x in want], abs=1e-3)
    assert exported.metadata.thing_classes == list("0123456789")
    check_equal_instances(exported(images[1]), retinanet.predictor(images[1]))


def test_other_sizes(retinanet):
    """Also those below a cell of the last level, and none of the example's."""
    onnx_file = softpool_det.Predictor(retinanet.folder)
    for height, width in ((64, 97), (30, 200), (301, 41)):
        pixels = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8).numpy()
        check_equal_instances(onnx_file(pixels), retinanet.predictor(pixels))


def test_manifest(retinanet):
    manifest = json.loads((retinanet.folder / "model.json").read_text())
    assert manifest == retinanet.manifest
    assert [entry["name"] for entry in manifest["classes"]] == list("0123456789")
    assert manifest["input"]["channel_order"] == retinanet.predictor.cfg.INPUT.FORMAT
    assert manifest["input"]["resize"]["shortest_side"] == 64
    assert manifest["score_threshold"] == 0.05
    assert {entry["file"] for entry in manifest["files"].values()} == {"model.onnx", "model.ts"}


def test_the_example_without_pytorch(retinanet, images, deployment_page):
    names = {"exported/": f"{retinanet.folder}/", "photo.jpg": str(images[0])}
    values, output = deployment_page.run("Without PyTorch", replacements=names)
    want = retinanet.predictor(images[0])
    found = Instances(want.image_size, pred_boxes=Boxes(torch.from_numpy(values["boxes"])))
    found.pred_classes, found.scores = map(torch.from_numpy, (values["classes"], values["scores"]))
    check_equal_instances(found, want)
    assert len(output.splitlines()) == (want.scores >= 0.5).sum()


def test_the_example_with_a_result_file(
    retinanet, small_datasets, deployment_page, program_here, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    data = small_datasets / "digit_scenes_val"
    (tmp_path / "trees").mkdir()
    for name, target in (("val.json", "annotations.json"), ("photos", "images")):
        (tmp_path / "trees" / name).symlink_to(data / target)
    (tmp_path / "exported").symlink_to(retinanet.folder)
    values, _ = deployment_page.run("With this package")
    found = read_detections("exported.json", read_ground_truth("trees/val.json"))
    want = retinanet.predictor.coco(values["files"], values["ids"])
    scores = sorted(entry["score"] for entry in want)
    np.testing.assert_allclose(sorted(found.score), scores, atol=1e-3)
    given = ["--config-file", "exported", "--input", values["files"][0], "--output", "drawn.png"]
    program_here("tools/visualize.py", *given)
    assert Path("drawn.png").stat().st_size > 1000


def test_refusals(retinanet, tmp_path):
    folder = shutil.copytree(retinanet.folder, tmp_path / "model")
    with pytest.raises(ValueError, match="exported detector: leave out weights"):
        softpool_det.Predictor(folder, "model_final.pth")
    with pytest.raises(ValueError, match="was exported already: name its run"):
        export_detector(softpool_det.Predictor(folder), tmp_path / "again", ["onnx"])
    with pytest.raises(ValueError, match=r"formats must be of onnx, .*, got 'caffe2'"):
        export_detector(retinanet.predictor, tmp_path / "again", ["caffe2"])
    shutil.copy(folder / "model.onnx", folder / "int8.onnx")
    with pytest.raises(ValueError, match=r"int8\.onnx: .*model\.json is about model\.onnx"):
        softpool_det.Predictor(folder / "int8.onnx")
    (folder / "model.onnx").write_bytes(b"cut")
    with pytest.raises(ValueError, match="its SHA-256 differs"):
        softpool_det.Predictor(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.onnx, which model\.json names"):
        softpool_det.Predictor(folder)
    for text in ("[]", '{"files": {}, "classes": [], "input": {}}'):
        (folder / "model.json").write_text(text)
        with pytest.raises(ValueError, match="is not a manifest of softpool-export"):
            softpool_det.Predictor(folder)
    old = {**retinanet.manifest, "input": {**retinanet.manifest["input"], "layout": "CHW"}}
    (folder / "model.json").write_text(json.dumps(old))
    with pytest.raises(ValueError, match=r"one image \(CHW\), not a batch.*: export .* again"):
        softpool_det.Predictor(folder)
    (folder / "model.json").unlink()
    (folder / "model.onnx").touch()
    with pytest.raises(FileNotFoundError, match=r"/model/model\.json does not .* manifest beside"):
        softpool_det.Predictor(folder / "model.onnx")
    with pytest.raises(NotADirectoryError, match=r"must be a folder, got the file .*model\.onnx"):
        export_detector(retinanet.predictor, folder / "model.onnx", ["onnx"])
    assert not (tmp_path / "again").exists()


def test_refuses_masks_in_aotinductor(make, images):
    with pytest.raises(ValueError, match="aotinductor gives wrong masks"):
        make("digits_mask_rcnn_softpool_R_18_FPN", ["onnx", "aotinductor"], images)


def test_differences_are_seen(retinanet, images):
    want = retinanet.predictor(images[0])
    got = Instances(want.image_size, **want.get_fields())
    got.pred_boxes, got.scores = want.pred_boxes.clone(), want.scores.clone()
    got.pred_boxes.tensor[0, 0] += 0.5
    got.scores[1] -= 0.01
    differences = Differences()
    want.pred_masks = torch.zeros(len(want), 10, 10, dtype=torch.bool)
    got.pred_masks = want.pred_masks.clone()
    got.pred_masks[2, :5] = True
    differences.add(want, got[:-1])
    assert differences.box == pytest.approx(0.5, abs=1e-4)
    assert differences.score == pytest.approx(0.01, abs=1e-4)
    assert differences.unpaired == 1
    assert differences.mask == 0.5
    names = ["boxes", "scores", "masks", "unpaired"]
    assert [line.split()[0] for line in differences.excess({})] == names


def test_boxes_that_are_cut_off_to_the_same_are_paired_by_their_scores():
    scores = torch.linspace(0.9, 0.1, 5)
    boxes = Boxes(torch.tensor([[0.0, 0, 64, 48]]).repeat(5, 1))
    want = Instances((48, 64), pred_boxes=boxes, scores=scores, pred_classes=torch.zeros(5))
    differences = Differences()
    differences.add(want, want[torch.tensor([3, 0, 4, 2, 1])])
    assert (differences.box, differences.score, differences.unpaired) == (0, 0, 0)


def test_masks_are_in_the_table_where_there_are_some():
    boxes, masks = Differences(seconds=[1]), Differences(seconds=[1], ap={"segm": 5.0})
    assert "mask" not in table({"pytorch": boxes})[0]
    assert [row["mask"] for row in table({"pytorch": masks, "onnx": masks})] == ["0", "0"]
    assert table({"onnx": Differences(mask=0.5, seconds=[1])})[0]["mask"] == "0.5"


@pytest.mark.slow
@pytest.mark.timeout(1800)  # AOTInductor compiles for minutes on a slow machine
@pytest.mark.parametrize("options", [(), ("MODEL.STEM_POOL.GRADIENT", "exact", *LEARNED)])
@pytest.mark.parametrize("config", ["retinanet", "mask_rcnn"])
def test_torch_export_and_aotinductor(make, images, config, options):
    formats = ["onnx", "torchscript", "torch_export"]
    if not options and config == "retinanet":
        formats.append("aotinductor")
    check_same(make(f"digits_{config}_softpool_R_18_FPN", formats, images, *options).found)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["retinanet", "mask_rcnn"])
def test_stock(make, images, config):
    check_same(make(f"digits_{config}_R_18_FPN", ["onnx", "torch_export"], images).found)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["retinanet", "mask_rcnn"])
def test_nothing_found(make, images, config):
    options = ["MODEL.RETINANET.SCORE_THRESH_TEST", "1.1"]
    options += ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "1.1"]
    formats = ["onnx", "torchscript", "torch_export"]
    got = make(f"digits_{config}_softpool_R_18_FPN", formats, images, *options)
    check_same(got.found, least=0)
    assert len(softpool_det.Predictor(got.folder)(images[0])) == 0


@pytest.mark.slow
def test_lazy_config(datasets_in, small_datasets, lazy_config, images, tmp_path):
    """Its score threshold is 0: thousands of candidates."""
    from softpool_det.config import load_config
    from softpool_det.training.detector import instantiate

    config = tmp_path / "tiny.py"
    config.write_text(lazy_config)
    with datasets_in(small_datasets):
        cfg = load_config(str(config), ["train.device=cpu"], trust_lazy_config=True)
        torch.manual_seed(0)
        model = instantiate(cfg.model)
        torch.nn.init.normal_(model.head.cls_score.weight, std=0.02)  # 0.3: scores of 1, ties
        torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
        predictor = softpool_det.Predictor(cfg, tmp_path / "model.pth")
        manifest = export_detector(predictor, tmp_path / "exported", ["onnx"])
        files = load_files(tmp_path / "exported", manifest)
        check_same(check_export(predictor, files, images))
