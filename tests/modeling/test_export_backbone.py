"""A Detectron2 backbone with the fused stem, for elsewhere."""

from __future__ import annotations

import onnxruntime
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.export import scripting_with_instances
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes
from torch.export import Dim

from softpool_det import add_softpool_config
from softpool_det.layers.learning import pooling_parameters
from softpool_det.modeling.backbones import build_softpool_resnet_backbone

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # Of torch about its own serialisation.
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning"),
]
SIZES = [(2, 3, 64, 96), (1, 3, 61, 83)]


@pytest.fixture(
    scope="module",
    params=[*(pytest.param(how, marks=pytest.mark.slow) for how in ("no", "one")), "channel"],
)
def backbone(request):
    """Stem and res2 of R18, whose norms and learned temperatures do something."""
    cfg = get_cfg()
    add_softpool_config(cfg)
    cfg.MODEL.STEM_POOL.LEARN_BETA = request.param
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["stem", "res2"]
    model = build_softpool_resnet_backbone(cfg, ShapeSpec(channels=3))
    generator = torch.Generator().manual_seed(0)
    for name, values in model.named_buffers():
        values.copy_(torch.randn(values.shape, generator=generator) / 4 + 1)
        if name.endswith("running_var"):
            values.abs_().add_(0.5)
    for values in pooling_parameters(model).values():
        values.data.copy_(torch.randn(values.shape, generator=generator) / 4 + 1)
    return model.eval()


def check_equal(exported, backbone):
    for size in SIZES:
        images = torch.randn(size)
        with torch.no_grad():
            torch.testing.assert_close(exported(images), backbone(images), rtol=1e-4, atol=1e-5)


def dynamic_sizes():
    return (dict.fromkeys((0, 2, 3), Dim.DYNAMIC),)


@pytest.mark.parametrize("how", ["script", "trace"])
def test_torchscript(backbone, how, tmp_path):
    if how == "script":
        scripted = scripting_with_instances(backbone, {"proposal_boxes": Boxes})
    else:
        # Detectron2's frozen norms compute otherwise where their input requires grad, as behind a
        # learned temperature, and the trace is checked without gradients.
        with torch.no_grad():
            scripted = torch.jit.trace(backbone, torch.randn(SIZES[0]), strict=False)
        assert "softpool_det::soft_pool" in str(scripted.inlined_graph)
    path = str(tmp_path / "backbone.pt")
    scripted.save(path)
    check_equal(torch.jit.load(path), backbone)


def test_export(backbone):
    program = torch.export.export(
        backbone, (torch.randn(SIZES[0]),), dynamic_shapes=dynamic_sizes()
    )
    pools = [n for n in program.graph.nodes if n.target == torch.ops.softpool_det.soft_pool.default]
    assert len(pools) == 1
    # Its norm comes with it.
    assert len(pools[0].args) + len(pools[0].kwargs) == len(pools[0].target._schema.arguments)
    check_equal(program.module(), backbone)


@pytest.mark.slow
def test_aot_inductor(backbone, tmp_path):
    torch.compiler.reset()
    with torch.no_grad():
        program = torch.export.export(
            backbone, (torch.randn(SIZES[0]),), dynamic_shapes=dynamic_sizes()
        )
        package = torch._inductor.aoti_compile_and_package(
            program, package_path=str(tmp_path / "backbone.pt2")
        )
    check_equal(torch._inductor.aoti_load_package(package), backbone)


@pytest.mark.slow
def test_onnx(backbone):
    program = torch.onnx.export(
        backbone,
        (torch.randn(SIZES[0]),),
        dynamo=True,
        dynamic_shapes=dynamic_sizes(),
        verbose=False,
    )
    assert {node.domain for node in program.model.graph} == {""}
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (name,) = (input.name for input in session.get_inputs())
    for size in SIZES:
        images = torch.randn(size)
        outputs = [torch.from_numpy(x) for x in session.run(None, {name: images.numpy()})]
        with torch.no_grad():
            expected = list(backbone(images).values())
        torch.testing.assert_close(outputs, expected, rtol=1e-5, atol=1e-5)
