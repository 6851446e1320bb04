"""The record of every inference: registered, stored, searched.

All names of the documented interface are here: `istore.filter_inferences(...)`. Nothing heavy
is imported until one of them is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixano_cli.inference_store.connection import connect as connect
    from pixano_cli.inference_store.database import Store as Store
    from pixano_cli.inference_store.export_task import create_export_task as create_export_task
    from pixano_cli.inference_store.export_task import get_export_task as get_export_task
    from pixano_cli.inference_store.inference import (
        bulk_delete_inferences as bulk_delete_inferences,
    )
    from pixano_cli.inference_store.inference import count_inferences as count_inferences
    from pixano_cli.inference_store.inference import create_inference as create_inference
    from pixano_cli.inference_store.inference import (
        create_inference_storage_request as create_inference_storage_request,
    )
    from pixano_cli.inference_store.inference import delete_inference as delete_inference
    from pixano_cli.inference_store.inference import filter_inferences as filter_inferences
    from pixano_cli.inference_store.inference import get_inference as get_inference
    from pixano_cli.inference_store.metadata import create_metadata as create_metadata
    from pixano_cli.inference_store.metadata import delete_metadata as delete_metadata
    from pixano_cli.inference_store.metadata import get_data_hash as get_data_hash
    from pixano_cli.inference_store.metadata import get_metadata as get_metadata
    from pixano_cli.inference_store.metadata import (
        get_metadata_key_type_counts as get_metadata_key_type_counts,
    )
    from pixano_cli.inference_store.metadata import (
        get_metadata_statistics as get_metadata_statistics,
    )
    from pixano_cli.inference_store.metadata import (
        map_to_inference_store_metadata as map_to_inference_store_metadata,
    )
    from pixano_cli.inference_store.models import BaseInferenceFilter as BaseInferenceFilter
    from pixano_cli.inference_store.models import DataUpload as DataUpload
    from pixano_cli.inference_store.models import (
        DeconstructedInferenceFilter as DeconstructedInferenceFilter,
    )
    from pixano_cli.inference_store.models import DeleteAction as DeleteAction
    from pixano_cli.inference_store.models import EmbeddingDistanceMetric as EmbeddingDistanceMetric
    from pixano_cli.inference_store.models import EmbeddingFilter as EmbeddingFilter
    from pixano_cli.inference_store.models import ExportTask as ExportTask
    from pixano_cli.inference_store.models import GeoCircle as GeoCircle
    from pixano_cli.inference_store.models import GeolocationFilter as GeolocationFilter
    from pixano_cli.inference_store.models import GeoPoint as GeoPoint
    from pixano_cli.inference_store.models import GeoRectangle as GeoRectangle
    from pixano_cli.inference_store.models import Inference as Inference
    from pixano_cli.inference_store.models import InferenceAction as InferenceAction
    from pixano_cli.inference_store.models import Metadata as Metadata
    from pixano_cli.inference_store.models import MetadataFilter as MetadataFilter
    from pixano_cli.inference_store.models import MetadataFilterOperator as MetadataFilterOperator
    from pixano_cli.inference_store.models import MetadataFilterType as MetadataFilterType
    from pixano_cli.inference_store.models import MetadataKeyTypeCounts as MetadataKeyTypeCounts
    from pixano_cli.inference_store.models import MetadataStatistics as MetadataStatistics
    from pixano_cli.inference_store.models import MetadataStatisticsType as MetadataStatisticsType
    from pixano_cli.inference_store.models import MetadataType as MetadataType
    from pixano_cli.inference_store.models import MetadataUpload as MetadataUpload
    from pixano_cli.inference_store.models import Model as Model
    from pixano_cli.inference_store.models import NewExportTaskRequest as NewExportTaskRequest
    from pixano_cli.inference_store.models import (
        NewExtendedMetadataRequest as NewExtendedMetadataRequest,
    )
    from pixano_cli.inference_store.models import NewGetInferencesRequest as NewGetInferencesRequest
    from pixano_cli.inference_store.models import (
        NewGetMetadataStatisticsRequest as NewGetMetadataStatisticsRequest,
    )
    from pixano_cli.inference_store.models import (
        NewGetRetentionTasksRequest as NewGetRetentionTasksRequest,
    )
    from pixano_cli.inference_store.models import (
        NewInferenceAndMetadataCollection as NewInferenceAndMetadataCollection,
    )
    from pixano_cli.inference_store.models import (
        NewInferenceStorageRequest as NewInferenceStorageRequest,
    )
    from pixano_cli.inference_store.models import (
        NewMetadataCollectionRequest as NewMetadataCollectionRequest,
    )
    from pixano_cli.inference_store.models import NewRegisterModelRequest as NewRegisterModelRequest
    from pixano_cli.inference_store.models import (
        NewRetentionPolicyRequest as NewRetentionPolicyRequest,
    )
    from pixano_cli.inference_store.models import NewRetentionTaskRequest as NewRetentionTaskRequest
    from pixano_cli.inference_store.models import (
        NewStandardMetadataRequest as NewStandardMetadataRequest,
    )
    from pixano_cli.inference_store.models import Pagination as Pagination
    from pixano_cli.inference_store.models import (
        PaginationEmbeddingSortField as PaginationEmbeddingSortField,
    )
    from pixano_cli.inference_store.models import (
        PaginationGranularInferenceSortField as PaginationGranularInferenceSortField,
    )
    from pixano_cli.inference_store.models import PaginationSortDirection as PaginationSortDirection
    from pixano_cli.inference_store.models import PaginationSortField as PaginationSortField
    from pixano_cli.inference_store.models import RetentionPolicy as RetentionPolicy
    from pixano_cli.inference_store.models import RetentionTask as RetentionTask
    from pixano_cli.inference_store.models import RetentionTaskState as RetentionTaskState
    from pixano_cli.inference_store.models import TaskType as TaskType
    from pixano_cli.inference_store.models import TimeWindowFilter as TimeWindowFilter
    from pixano_cli.inference_store.register import get_registered_model as get_registered_model
    from pixano_cli.inference_store.register import (
        register_model_for_inference_storage as register_model_for_inference_storage,
    )
    from pixano_cli.inference_store.retention_policy import (
        create_retention_policy as create_retention_policy,
    )
    from pixano_cli.inference_store.retention_policy import (
        delete_retention_policy as delete_retention_policy,
    )
    from pixano_cli.inference_store.retention_policy import (
        get_retention_policy as get_retention_policy,
    )
    from pixano_cli.inference_store.retention_task import (
        create_retention_task as create_retention_task,
    )
    from pixano_cli.inference_store.retention_task import (
        filter_retention_tasks as filter_retention_tasks,
    )
    from pixano_cli.inference_store.retention_task import get_retention_task as get_retention_task
    from pixano_cli.inference_store.upload import upload_data as upload_data
    from pixano_cli.inference_store.upload import (
        upload_inference_and_metadata as upload_inference_and_metadata,
    )
else:
    import importlib

    _NAMES = {
        "connection": [
            "connect",
        ],
        "database": [
            "Store",
        ],
        "export_task": [
            "create_export_task",
            "get_export_task",
        ],
        "inference": [
            "bulk_delete_inferences",
            "count_inferences",
            "create_inference",
            "create_inference_storage_request",
            "delete_inference",
            "filter_inferences",
            "get_inference",
        ],
        "metadata": [
            "create_metadata",
            "delete_metadata",
            "get_data_hash",
            "get_metadata",
            "get_metadata_key_type_counts",
            "get_metadata_statistics",
            "map_to_inference_store_metadata",
        ],
        "models": [
            "BaseInferenceFilter",
            "DataUpload",
            "DeconstructedInferenceFilter",
            "DeleteAction",
            "EmbeddingDistanceMetric",
            "EmbeddingFilter",
            "ExportTask",
            "GeoCircle",
            "GeoPoint",
            "GeoRectangle",
            "GeolocationFilter",
            "Inference",
            "InferenceAction",
            "Metadata",
            "MetadataFilter",
            "MetadataFilterOperator",
            "MetadataFilterType",
            "MetadataKeyTypeCounts",
            "MetadataStatistics",
            "MetadataStatisticsType",
            "MetadataType",
            "MetadataUpload",
            "Model",
            "NewExportTaskRequest",
            "NewExtendedMetadataRequest",
            "NewGetInferencesRequest",
            "NewGetMetadataStatisticsRequest",
            "NewGetRetentionTasksRequest",
            "NewInferenceAndMetadataCollection",
            "NewInferenceStorageRequest",
            "NewMetadataCollectionRequest",
            "NewRegisterModelRequest",
            "NewRetentionPolicyRequest",
            "NewRetentionTaskRequest",
            "NewStandardMetadataRequest",
            "Pagination",
            "PaginationEmbeddingSortField",
            "PaginationGranularInferenceSortField",
            "PaginationSortDirection",
            "PaginationSortField",
            "RetentionPolicy",
            "RetentionTask",
            "RetentionTaskState",
            "TaskType",
            "TimeWindowFilter",
        ],
        "register": [
            "get_registered_model",
            "register_model_for_inference_storage",
        ],
        "retention_policy": [
            "create_retention_policy",
            "delete_retention_policy",
            "get_retention_policy",
        ],
        "retention_task": [
            "create_retention_task",
            "filter_retention_tasks",
            "get_retention_task",
        ],
        "upload": [
            "upload_data",
            "upload_inference_and_metadata",
        ],
    }
    _HOMES = {name: module for module, names in _NAMES.items() for name in names}

    __all__ = sorted(_HOMES)

    def __getattr__(name):
        if name in _HOMES:
            value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        elif name in _NAMES:
            value = importlib.import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *_HOMES, *_NAMES})
