"""`fill_store.py STORE IMAGES`: a finished run of made-up answers in an inference store."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import batched
from uuid import uuid4

from made_up import HEIGHT, WIDTH, elements

from pixano_cli.annotate.identity import Request, inference_id
from pixano_cli.inference_store import ledger
from pixano_cli.inference_store.database import open_store
from pixano_cli.inference_store.models import InferenceAction, NewRegisterModelRequest, TaskType
from pixano_cli.inference_store.records import Record
from pixano_cli.inference_store.register import put_model
from pixano_cli.models.coco_classes import COCO_CATEGORIES
