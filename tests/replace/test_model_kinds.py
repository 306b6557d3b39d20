"""Models that are wrapped, scripted, exported or quantized, and what is not a model."""

import networks
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import fx, nn
from torch.ao import quantization

from softpool_det import replace_pooling
from softpool_det.ops import SoftPool2d, soft_pool2d

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*(deprecated|Deprecated)"),
]

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
WHERE = ["stem", "all", ["1"], lambda name, module: True]


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 4, 3)).eval()


def with_soft_pool(model, images):
    return model[2](soft_pool2d(model[0](images), 3, 2, 1))


@pytest.fixture
def one_process():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def check_wrapped(wrapped, model, name):
    before = wrapped(IMAGES)
    assert [row.name for row in replace_pooling(wrapped).replaced] == [name]
    after = wrapped(IMAGES)
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, with_soft_pool(model, IMAGES))
    assert not replace_pooling(wrapped)


def test_data_parallel():
    model = small()
    check_wrapped(nn.DataParallel(model), model, "module.1")


@pytest.mark.usefixtures("one_process")
def test_distributed_data_parallel_before_and_after_a_step():
    model = small()
    wrapped = nn.parallel.DistributedDataParallel(model)
    check_wrapped(wrapped, model, "module.1")
    wrapped(IMAGES).sum().backward()
    assert model[0].weight.grad.abs().sum() > 0


def test_averaged_weights():
    wrapped = torch.optim.swa_utils.AveragedModel(small())
    check_wrapped(wrapped, wrapped.module, "module.1")


@pytest.mark.parametrize("in_place", [False, True])
def test_compiled(in_place):
    """It was called before, so there is compiled code with the old pooling."""
    model = small()
    if in_place:
        model.compile(backend="eager")
        check_wrapped(model, model, "1")
    else:
        check_wrapped(torch.compile(model, backend="eager"), model, "_orig_mod.1")


def test_compiled_forward_with_functional_poolings():
    model = networks.Functional().eval()
    compiled = torch.compile(model, backend="eager")
    before = compiled(IMAGES)
    assert len(replace_pooling(compiled, "all")) == 3
    torch.testing.assert_close(compiled(IMAGES), model(IMAGES))
    assert not torch.equal(compiled(IMAGES), before)


def test_a_pooling_that_was_compiled_itself():
    """Its compiled call belongs to the old pooling."""
    model = small()
    model[1].compile(backend="eager")
    check_wrapped(model, model, "1")


def test_a_pooling_whose_forward_was_replaced_on_the_object():
    """As hooks of accelerate do; the new pooling would call it, too."""
    model = small()
    model[1].forward = lambda images: F.max_pool2d(images, 3, 2, 1)
    with pytest.raises(ValueError, match="cannot replace 1: its forward was replaced on the obj"):
        replace_pooling(model)
    assert "replaced on the object" in replace_pooling(model, "all").left[0].reason
    assert type(model[1]) is nn.MaxPool2d


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("make", [torch.jit.script, lambda model: torch.jit.trace(model, IMAGES)])
def test_scripted_models_are_refused(make, where):
    with pytest.raises(TypeError, match=r"scripted or traced \(torch\.jit\).* original module"):
        replace_pooling(make(small()), where)


@pytest.mark.parametrize("where", WHERE)
def test_exported_models_are_refused(where):
    exported = torch.export.export(small(), (IMAGES,))
    for model in (exported, exported.module(), torch.export.unflatten(exported)):
        with pytest.raises(TypeError, match=r"exported \(torch\.export\).* original module"):
            replace_pooling(model, where)


def test_scripted_and_exported_parts_are_named():
    scripted = torch.jit.script(small())
    exported = torch.export.export(small(), (IMAGES,)).module()
    for part, reason in ((scripted, "torch.jit"), (exported, "torch.fx graph")):
        with pytest.raises(ValueError, match=rf"no stem pooling: 0: .*{reason}"):
            replace_pooling(nn.Sequential(part))
        for where in ("stem", "all"):
            result = replace_pooling(nn.Sequential(small(), part), where)
            assert [row.name for row in result.replaced] == ["0.1"]
            assert [row.name for row in result.left] == ["1"]
            assert reason in result.left[0].reason


def test_a_graph_module_has_its_modules_replaced():
    model = fx.symbolic_trace(small())
    check_wrapped(model, [model.get_submodule(str(i)) for i in range(3)], "1")
    functional = fx.symbolic_trace(networks.Functional().eval())
    with pytest.raises(ValueError, match=r"torch\.fx graph: replace them before tracing"):
        replace_pooling(functional)


@pytest.mark.parametrize("where", WHERE)
def test_quantized_models_are_refused(where):
    model = small()
    model.qconfig = quantization.default_qconfig
    prepared = quantization.prepare(model)
    prepared(IMAGES)
    quantized = quantization.convert(prepared)
    assert type(quantized[0]) is torch.ao.nn.quantized.Conv2d
    with pytest.raises(ValueError, match=r"model is quantized \(0\).* floating-point input: call"):
        replace_pooling(quantized, where)
    assert type(quantized[1]) is nn.MaxPool2d


def test_models_in_training_for_quantization_are_taken():
    model = small().train()
    model.qconfig = quantization.default_qat_qconfig
    prepared = quantization.prepare_qat(model)
    assert replace_pooling(prepared)
    assert type(prepared[1]) is SoftPool2d
    prepared(IMAGES).sum().backward()


@pytest.mark.parametrize(
    ("model", "got"),
    [
        ("resnet50", "str"),
        (None, "NoneType"),
        (nn.Sequential, "the class Sequential"),
        ([small()], "list"),
    ],
)
def test_what_is_not_a_module(model, got):
    with pytest.raises(TypeError, match=rf"model must be a torch\.nn\.Module, got {got}$"):
        replace_pooling(model)
