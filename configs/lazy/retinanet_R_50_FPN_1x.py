"""Stock arm: RetinaNet R50-FPN 1x in the recipe of configs/Base-RetinaNet.yaml."""

from detectron2.model_zoo import get_config

dataloader = get_config("common/data/coco.py").dataloader
lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_1x
model = get_config("common/models/retinanet.py").model
optimizer = get_config("common/optim.py").SGD
train = get_config("common/train.py").train

# torchvision's ImageNet weights: RGB images, these statistics, stride in the 3x3 convolutions.
dataloader.train.mapper.image_format = "RGB"
dataloader.train.mapper.use_instance_mask = False
dataloader.test.mapper.image_format = "RGB"
model.input_format = "RGB"
model.pixel_mean = [123.675, 116.280, 103.530]
model.pixel_std = [58.395, 57.120, 57.375]
model.backbone.bottom_up.stages.stride_in_1x1 = False
# Nothing is frozen, so that the layers behind the stem's pooling can adapt to it.
model.backbone.bottom_up.freeze_at = 0

optimizer.lr = 0.01
train.init_checkpoint = "detectron2://ImageNetPretrained/torchvision/R-50.pkl"
dataloader.evaluator.output_dir = "${...train.output_dir}/inference"
