"""Detectors that detect without having been trained, in the folders of runs."""

from types import SimpleNamespace

import pytest
import torch
from detectron2.modeling import RetinaNet

from softpool_det.config import load_config
from softpool_det.layers.learning import pooling_parameters
from softpool_det.training.trainer import Trainer

SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", "16", "INPUT.MIN_SIZE_TEST", "64"),
    *("MODEL.RPN.POST_NMS_TOPK_TEST", "30"),
]


def _write_run(folder, config, *options):
    """A run's folder with random weights.

    A fresh detector has the same small score everywhere. Classification and masks get weights so
    large that scores are spread from 0 to 1, and the norms other statistics than none.
    """
    torch.manual_seed(0)
    cfg = load_config(f"configs/demo/{config}.yaml", [*SMALL, "OUTPUT_DIR", str(folder), *options])
    model = Trainer.build_model(cfg)
    with torch.no_grad():
        for name, values in model.named_buffers():
            if name.endswith("running_var"):
                values.uniform_(0.5, 1.5)
        for values in pooling_parameters(model).values():
            values.uniform_(0.5, 2)
        if isinstance(model, RetinaNet):
            model.head.cls_score.weight.normal_(std=0.3)
            model.head.cls_score.bias.fill_(-3)
            model.head.bbox_pred.weight.normal_(std=0.05)
        else:
            model.roi_heads.box_predictor.cls_score.weight.normal_(std=1)
            model.roi_heads.mask_head.predictor.weight.normal_(std=1)
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(cfg.dump())
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    return folder


@pytest.fixture(scope="session")
def write_run():
    return _write_run


@pytest.fixture(scope="session")
def images(small_datasets):
    """Paths by id."""
    paths = sorted((small_datasets / "digit_scenes_val" / "images").iterdir())
    return dict(enumerate(paths[:3]))


@pytest.fixture(scope="module")
def make(tmp_path_factory, small_datasets, datasets_in, one_thread):
    """Makes a run, exports it, and compares the files with it."""
    from softpool_det.export.parity import check_export, load_files
    from softpool_det.export.write import export_detector
    from softpool_det.training.predictor import Predictor

    with datasets_in(small_datasets):

        def made(config, formats, images, *options):
            run = _write_run(tmp_path_factory.mktemp("run"), config, *options)
            predictor, folder = Predictor(run), tmp_path_factory.mktemp("exported") / "model"
            manifest = export_detector(predictor, folder, formats)
            found = check_export(predictor, load_files(folder, manifest), images)
            return SimpleNamespace(
                run=run, predictor=predictor, folder=folder, manifest=manifest, found=found
            )

        yield made
