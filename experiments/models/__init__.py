"""Flax Linen models: ``model(inputs, train=...)`` returns float32 logits."""

from experiments.models.llama import LLAMA_SHAPES as LLAMA_SHAPES
from experiments.models.llama import Llama as Llama
from experiments.models.mixer import Mixer as Mixer
from experiments.models.resnet import RESNET_SHAPES as RESNET_SHAPES
from experiments.models.resnet import ResNet as ResNet
from experiments.models.vit import VIT_SHAPES as VIT_SHAPES
from experiments.models.vit import VisionTransformer as VisionTransformer
from experiments.models.wide_resnet import WideResNet as WideResNet
