"""Local models: what the author of a model plugin needs."""

from pixano_cli.models.base import (
    InferenceModel,
    ModelCard,
    ModelDeploymentConfig,
    WeightFile,
    register_model,
)
from pixano_cli.models.detection import DetectionInput, DetectionModel, DetectionOutput
from pixano_cli.models.embedding import EmbeddingInput, EmbeddingModel, EmbeddingOutput
from pixano_cli.models.everything import EverythingInput, EverythingModel, PointMask
from pixano_cli.models.segmentation import (
    SegmentationInput,
    SegmentationModel,
    SegmentationOutput,
)
from pixano_cli.models.tracking import TrackingInput, TrackingModel, TrackingOutput
from pixano_cli.models.vlm import UsageInfo, VLMInput, VLMModel, VLMOutput

__all__ = [
    "DetectionInput",
    "DetectionModel",
    "DetectionOutput",
    "EmbeddingInput",
    "EmbeddingModel",
    "EmbeddingOutput",
    "EverythingInput",
    "EverythingModel",
    "InferenceModel",
    "ModelCard",
    "ModelDeploymentConfig",
    "PointMask",
    "SegmentationInput",
    "SegmentationModel",
    "SegmentationOutput",
    "TrackingInput",
    "TrackingModel",
    "TrackingOutput",
    "UsageInfo",
    "VLMInput",
    "VLMModel",
    "VLMOutput",
    "WeightFile",
    "register_model",
]
