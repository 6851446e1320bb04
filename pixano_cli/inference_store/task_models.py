"""Statistics, exports and retention, as the documented interface names it."""

# The documented bases of the enums are str and Enum.
# ruff: noqa: UP042

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from pixano_cli.inference_store.filter_models import (
    BaseInferenceFilter,
    Pagination,
    TimeWindowFilter,
)
from pixano_cli.inference_store.record_models import ENUM_VALUES, PLAIN


class MetadataStatisticsType(str, Enum):
    """The types of metadata that can be counted and measured."""

    FLOAT = "float"
    INT = "int"
    STRING = "string"


class DeleteAction(str, Enum):
    """What a retention policy does to records: remove them for good, or hide them everywhere."""

    HARD = "hard"
    SOFT = "soft"


class RetentionTaskState(str, Enum):
    """The states of a retention task."""

    COMPLETE = "complete"
    FAILED = "failed"
    PENDING = "pending"
    RUNNING = "running"
    SCHEDULED = "scheduled"
    STOPPED = "stopped"


class MetadataKeyTypeCounts(BaseModel):
    """How many inferences have a key: `{key: {type: n}}`."""

    counts: dict[str, dict[str, int]]

    model_config: ClassVar[ConfigDict] = PLAIN


class NewGetMetadataStatisticsRequest(BaseModel):
    """A key to measure, over the inferences that pass the filters.

    Attributes:
        filters: Which inferences; all of the model's if not given.
        key: The key.
        type: Its type; values of another one are left out.
        distribution_bin_count: Number of bins; 10 if neither this nor the width is given.
        distribution_bin_width: Width of a bin. Count and width together are an error.
        distribution_maximum_value: Where binning ends; the largest value if not given.
        distribution_minimum_value: Where binning begins; the smallest value if not given.
    """

    filters: BaseInferenceFilter | None = None
    key: str
    type: MetadataStatisticsType
    distribution_bin_count: int | None = None
    distribution_bin_width: float | None = None
    distribution_maximum_value: float | None = None
    distribution_minimum_value: float | None = None

    model_config: ClassVar[ConfigDict] = ENUM_VALUES


class MetadataStatistics(BaseModel):
    """How the values of a key are distributed.

    Attributes:
        count: How many there are.
        distribution: How many in each bin, its key "[low, high)" and the last one's
            "[low, high]"; for strings how many of each value.
        min: The smallest number.
        max: The largest number.
    """

    count: int | None = None
    distribution: dict[str, int] | None = None
    min: float | None = None
    max: float | None = None

    model_config: ClassVar[ConfigDict] = PLAIN


class NewExportTaskRequest(BaseModel):
    """Inferences to export: those that pass the filters or are included, less the excluded ones.

    Attributes:
        filters: Which inferences.
        include_inference_ids: Further ones.
        exclude_inference_ids: Ones to leave out, whatever else is said.
        include_inferences_as_annotations: Whether their elements go along, where they have some.
        include_custom_metadata: Whether their metadata goes along.
    """

    filters: BaseInferenceFilter = BaseInferenceFilter()
    include_inference_ids: list[str] = Field(default_factory=list)
    exclude_inference_ids: list[str] = Field(default_factory=list)
    include_inferences_as_annotations: bool = False
    include_custom_metadata: bool = False

    model_config: ClassVar[ConfigDict] = PLAIN


class ExportTask(BaseModel):
    """An export and how far it is.

    Attributes:
        id: Its id.
        progress_count: Inferences that are in the archive.
        expected_count: Inferences that will be.
        state: "pending", "running", "complete" or "failed".
        presigned_url: URL of the archive once it is complete.
    """

    id: str
    progress_count: int
    expected_count: int
    state: str
    presigned_url: str | None = None

    model_config: ClassVar[ConfigDict] = PLAIN


class NewRetentionPolicyRequest(BaseModel):
    """How long a model's inferences and their inputs are kept; ages and the interval in hours.

    Attributes:
        automated_interval: How often it is run by itself; 0 for never.
        maximum_record_age: After how long a record is removed; -1 for never.
        maximum_blob_age: After how long its input is removed: 0 to maximum_record_age.
        delete_action: Whether records are hidden everywhere or removed for good.
    """

    automated_interval: int
    maximum_record_age: int
    maximum_blob_age: int
    delete_action: DeleteAction = DeleteAction.SOFT

    model_config: ClassVar[ConfigDict] = ENUM_VALUES


class RetentionPolicy(BaseModel):
    """A model's retention policy, its ages and interval in hours; times are in UTC."""

    id: str
    model_id: str
    delete_action: str
    maximum_record_age: int
    maximum_blob_age: int
    automated_interval: int | None = None
    last_scheduled_at: datetime | None = None

    model_config: ClassVar[ConfigDict] = PLAIN


class NewRetentionTaskRequest(BaseModel):
    """A retention policy to run once; a dry run counts what would go and removes nothing."""

    dry_run: bool
    retention_policy_id: str

    model_config: ClassVar[ConfigDict] = PLAIN


class NewGetRetentionTasksRequest(BaseModel):
    """Retention tasks to look for: those for which all that is given here holds."""

    retention_policy_id: str | None = None
    state_filter: RetentionTaskState | None = None
    time_window_filter: TimeWindowFilter | None = None
    pagination: Pagination | None = None

    model_config: ClassVar[ConfigDict] = ENUM_VALUES


class RetentionTask(BaseModel):
    """A run of a retention policy.

    Attributes:
        id: Its id.
        retention_policy_id: The policy it runs.
        deleted_record_count: Records removed so far.
        deleted_blob_count: Inputs removed so far.
        total_record_count: Records to be removed.
        total_blob_count: Inputs to be removed.
        state: A RetentionTaskState's value.
        maximum_record_age_limit: Records that are not older are kept; in UTC.
        maximum_blob_age_limit: Inputs that are not older are kept; in UTC.
    """

    id: str
    retention_policy_id: str
    deleted_record_count: int
    deleted_blob_count: int
    total_record_count: int
    total_blob_count: int
    state: str
    maximum_record_age_limit: datetime
    maximum_blob_age_limit: datetime

    model_config: ClassVar[ConfigDict] = PLAIN
