"""The models and functions are those of the documented interface, word for word."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import pixano_cli.inference_store
from pixano_cli import inference_store as istore
from pixano_cli.errors import StoreError

DOCUMENTED = (Path(__file__).parent / "documented.txt").read_text().splitlines()


def entries(kind: str) -> list[tuple[str, list[str]]]:
    """The entries of a kind: what follows the word, and the indented lines below."""
    found: list[tuple[str, list[str]]] = []
    taken = False
    for line in DOCUMENTED:
        if line.startswith("    "):
            if taken:
                found[-1][1].append(line.strip())
            continue
        word, _, rest = line.partition(" ")
        taken = word == kind
        if taken:
            found.append((rest, []))
    return found


def written(signature: inspect.Signature) -> str:
    """A signature as the document writes it."""
    text = re.sub(r"pixano_cli\.inference_store\.(\w+_)?models\.", "", str(signature))
    text = re.sub(r"\b(typing|datetime)\.", "", text)
    text = text.replace("dict[str, Any]", "dict").replace("Mapping[str, Any]]", "\0")
    text = re.sub(r"<(\w+\.\w+): '[^']*'>", r"\1", text)
    return text.replace("\0", "Mapping[str, Any]]")


@pytest.mark.parametrize(("signature", "below"), entries("model"))
def test_model_is_as_documented(signature: str, below: list[str]) -> None:
    name = signature.partition("(")[0]
    model = getattr(istore, name)
    assert issubclass(model, BaseModel)
    ours = written(inspect.signature(model)).removesuffix(" -> None")
    if name == "NewInferenceAndMetadataCollection":
        # The document's None is not of its own types; here it is, so that a dump can be read.
        ours = ours.replace("] | None = None", "] = None")
    assert name + ours == signature
    assert [repr(model.model_config)] == below


@pytest.mark.parametrize(("name", "below"), entries("enum"))
def test_enum_is_as_documented(name: str, below: list[str]) -> None:
    enum: type[Enum] = getattr(istore, name)
    assert issubclass(enum, str)
    assert [f"{each.name} = {each.value!r}" for each in enum] == below


@pytest.mark.parametrize("documented", [rest for rest, _ in entries("function")])
def test_function_is_as_documented(documented: str) -> None:
    path = documented.partition("(")[0]
    value: Any = pixano_cli.inference_store
    for part in path.split("."):
        value = getattr(value, part)
    signature = inspect.signature(value, eval_str=True)
    ours = re.sub(r"collections\.abc\.", "", written(signature)).replace(" -> ", " ")
    assert path + ours == documented
    if not path.startswith("models"):
        assert getattr(istore, path.partition(".")[2]) is value


@pytest.mark.parametrize("documented", [rest for rest, _ in entries("property")])
def test_property_is_as_documented(documented: str) -> None:
    path, _, kind = documented.partition(": ")
    _, model, name = path.split(".")
    value = inspect.getattr_static(getattr(istore, model), name)
    assert isinstance(value, property)
    assert value.fget is not None
    assert value.fget.__annotations__ == {"return": kind}


def test_every_function_is_in_the_document() -> None:
    documented = {text.partition("(")[0] for text, _ in entries("function")}
    ours = {
        f"{value.__module__.rpartition('.')[2]}.{name}"
        for name in vars(istore)["__all__"]
        if inspect.isfunction(value := getattr(istore, name))
    }
    assert ours - {"connection.connect"} == {
        each for each in documented if not each.startswith("models.")
    }


def test_every_model_is_in_the_document() -> None:
    documented = {text.partition("(")[0] for kind in ("model", "enum") for text, _ in entries(kind)}
    ours = {name for name, value in vars(istore.models).items() if inspect.isclass(value)}
    assert ours == set(istore.models.__all__) == documented
    assert ours < set(dir(istore))


def test_package_shows_the_same_names_to_a_type_checker() -> None:
    source = Path(pixano_cli.inference_store.__file__).read_text()
    shown = set(re.findall(r"import (\w+) as \1\b", source))
    shown |= set(re.findall(r"^ +(\w+) as \1,$", source, re.MULTILINE))
    assert shown == set(vars(pixano_cli.inference_store)["__all__"])


def test_importing_the_package_is_light() -> None:
    script = (
        "import sys\n"
        "from pixano_cli import inference_store as istore\n"
        "heavy = {'sqlalchemy', 'pydantic', 'alembic', 'orjson', 'sqlite3'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "istore.TaskType\n"
        "assert 'sqlalchemy' not in sys.modules\n"
        "istore.count_inferences\n"
        "assert 'sqlalchemy' in sys.modules and 'alembic' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'bulk_creat'"):
        getattr(istore, "bulk_creat")  # noqa: B009


def test_enum_values_are_kept_where_documented() -> None:
    asked = istore.MetadataFilter(
        key="n",
        operator=istore.MetadataFilterOperator.IN,
        type=istore.MetadataFilterType.INT,
        value="[1]",
    )
    assert asked.model_dump() == {"key": "n", "operator": "in", "type": "int", "value": "[1]"}
    assert type(asked.operator) is str
    page = istore.Pagination(sort=istore.PaginationGranularInferenceSortField.SCORE)
    assert page.sort == "score"


def test_collection_can_be_read_from_its_dump() -> None:
    standard = istore.NewStandardMetadataRequest(
        data_hash="h",
        data_size=1,
        task_type=istore.TaskType.IMAGE_EMBEDDING,
        inference_action=istore.InferenceAction.EMBED,
    )
    collection = istore.NewInferenceAndMetadataCollection(
        embedding=[1.0], metadata=istore.NewMetadataCollectionRequest(standard_metadata=standard)
    )
    again = istore.NewInferenceAndMetadataCollection.model_validate(collection.model_dump())
    assert again == collection


def test_defaults_are_not_shared() -> None:
    first, second = istore.NewGetInferencesRequest(), istore.NewGetInferencesRequest()
    first.filters.data_hash_filter = "h"
    assert second.filters.data_hash_filter is None


@pytest.mark.parametrize(
    ("kind", "values", "text"),
    [
        ("string", ["cat", "dog"], "[cat, dog]"),
        ("json.string", ["a b"], "[a b]"),
        ("int", [1, -2, 10**30], f"[1, -2, {10**30}]"),
        ("json.float", [0.5, 1e-9], "[0.5, 1e-09]"),
        ("float", [], "[]"),
    ],
)
def test_values_for_the_in_operator(kind: str, values: list[Any], text: str) -> None:
    form = istore.MetadataFilter.form_values_for_in_operator
    assert form(istore.MetadataFilterType(kind), values) == text


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("string", ["a,b"]),
        ("string", [""]),
        ("string", [" a"]),
        ("int", ["a"]),
        ("int", [1.5]),
        ("int", [True]),
        ("float", [float("nan")]),
        ("json.float", [float("inf")]),
    ],
)
def test_values_that_no_list_can_hold_are_refused(kind: str, values: list[Any]) -> None:
    with pytest.raises(StoreError):
        istore.MetadataFilter.form_values_for_in_operator(istore.MetadataFilterType(kind), values)


@pytest.mark.parametrize(
    ("data", "embedding"),
    [
        (None, None),
        ("[1, 2.5]", [1, 2.5]),
        ("[]", None),
        ('[{"label": "cat"}]', None),
        ("[true]", None),
        ("{}", None),
        ("not JSON", None),
    ],
)
def test_structured_embedding(data: str | None, embedding: list[float] | None) -> None:
    record = istore.Inference(
        model_id="m",
        inference_id="i",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        updated_at=datetime(2026, 1, 1, tzinfo=UTC),
        inference_action="embed",
        data=data,
        data_hash="h",
        version="v1",
    )
    assert record.structured_embedding == embedding
