"""Prompts of every documented form, answers of every kind, and the shapes that JSON may have."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixano_cli.inference.errors import InferenceError, InvalidRequestError
from pixano_cli.inference.generation import GenerationInput
from pixano_cli.inference.providers.chat import Picture, Utterance, asked_of, utterances
from pixano_cli.inference.providers.chat_answers import (
    Said,
    UnreadableError,
    apart,
    check_said,
    find_json,
    read_json,
    summed,
    usage_of,
)
from pixano_cli.inference.providers.chat_schema import check, check_schema, is_strict
from pixano_cli.inference.providers.openai_chat import Manners
from pixano_cli.inference.types import TextImageConditionalGenerationInput
from pixano_cli.media.flight import url_of

URL = "data:image/png;base64,AAAA"
A, B = Picture(URL), Picture("file:///b.png")


def user(*parts: str | Picture) -> Utterance:
    return Utterance("user", parts)


@pytest.mark.parametrize(
    ("prompt", "images", "talk"),
    [
        ("What?", None, [user("What?")]),
        ("What?", [URL, "file:///b.png"], [user(A, B, "What?")]),
        ([{"role": "user", "content": "What?"}], [URL], [user(A, "What?")]),
        (
            [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": [{"type": "text", "text": "What?"}]},
                {"role": "assistant", "content": "A cat."},
                {"role": "user", "content": [{"type": "text", "text": "Sure?"}]},
            ],
            [URL],
            [
                Utterance("system", ("Be short.",)),
                user(A, "What?"),
                Utterance("assistant", ("A cat.",)),
                user("Sure?"),
            ],
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "First"},
                        {"type": "image_url", "image_url": {"url": URL}},
                        {"type": "image_url", "image_url": "file:///b.png"},
                    ],
                }
            ],
            None,
            [user("First", A, B)],
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image"},
                        {"type": "text", "text": "or"},
                        {"type": "image"},
                    ],
                }
            ],
            [URL, "file:///b.png"],
            [user(A, "or", B)],
        ),
        ([{"role": "user", "content": [{"type": "image", "image": URL}]}], None, [user(A)]),
    ],
)
def test_prompt_forms(prompt: Any, images: Any, talk: list[Utterance]) -> None:
    assert list(utterances(prompt, images)) == talk


def test_a_path_is_an_image_too(tmp_path: Path) -> None:
    path = tmp_path / "a b#.png"
    expected = (user(Picture(url_of(path)), "?"),)
    assert utterances("?", [path]) == utterances("?", [str(path)]) == expected


@pytest.mark.parametrize(
    ("prompt", "images", "told"),
    [
        (" ", None, "is empty"),
        ([], None, "no message of the user"),
        ([{"role": "system", "content": "x"}], None, "no message of the user"),
        ([{"content": "x"}], None, "no role"),
        ([{"role": "judge", "content": "x"}], None, "no role"),
        (["x"], None, "no role"),
        ([{"role": "user"}], None, "no content"),
        ([{"role": "user", "content": []}], None, "no content"),
        ([{"role": "user", "content": [{"type": "video"}]}], None, "type 'video'"),
        ([{"role": "user", "content": [{"type": "image"}]}], None, "more images than"),
        ([{"role": "user", "content": [{"type": "image"}]}], [URL, URL], "no place for 1"),
    ],
)
def test_what_is_no_prompt(prompt: Any, images: Any, told: str) -> None:
    with pytest.raises(InvalidRequestError, match=told):
        utterances(prompt, images)


def test_what_is_asked() -> None:
    published = TextImageConditionalGenerationInput("m", "?", None, 7, 0.5)
    asked = asked_of(published)
    assert (asked.max_tokens, asked.temperature, asked.seed, asked.schema) == (7, 0.5, None, None)
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    wanted = asked_of(GenerationInput("m", "?", [URL], seed=3, schema=schema))
    assert (wanted.seed, wanted.schema) == (3, schema)
    assert json.dumps(schema, separators=(",", ":")) in str(wanted.talk[-1].parts[-1])
    assert wanted.pictures == (A,)
    assert 1_000 < wanted.tokens < 1_300
    for request, told in (
        (GenerationInput("m", "?", max_new_tokens=0), "max_new_tokens"),
        (GenerationInput("m", "?", temperature=-1), "temperature"),
        (GenerationInput("m", "?", temperature=float("nan")), "temperature"),
        (GenerationInput("m", "?", schema={"$ref": "#"}), r"has '\$ref', which answers are not"),
    ):
        with pytest.raises(InvalidRequestError, match=told):
            asked_of(request)


@pytest.mark.parametrize(
    ("said", "text", "reasoning"),
    [
        ("A cat.", "A cat.", ""),
        ("<think>Ears.\nTail.</think>\n\nA cat.", "A cat.", "Ears.\nTail."),
        ("  <thinking>a</thinking><think></think>b", "b", "a"),
        ("Ears.</think>A cat.", "A cat.", "Ears."),
        ("<think>Ears, tail and", "", "Ears, tail and"),
        ("A sign says <think>big</think>.", "A sign says <think>big</think>.", ""),
    ],
)
def test_reasoning_is_kept_apart(said: str, text: str, reasoning: str) -> None:
    if said.startswith("A sign"):
        # A tag in the middle is not reasoning, but what ends one is its end.
        assert apart("Look: <thin>.")[0] == "Look: <thin>."
    else:
        assert apart(said) == (text, reasoning)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=10,
)
CONTAINER = st.lists(JSON, max_size=3) | st.dictionaries(st.text(max_size=4), JSON, max_size=3)
PROSE = st.text(st.characters(exclude_characters='[]{}"'), max_size=20)


@given(st.lists(CONTAINER, max_size=3), PROSE, st.sampled_from(["{}", "```json\n{}\n```"]))
def test_json_is_found_among_words(values: list[Any], prose: str, fence: str) -> None:
    parts = [fence.replace("{}", json.dumps(value)) for value in values]
    assert find_json(prose + prose.join(parts) + prose) == values


@given(CONTAINER, st.data())
def test_json_that_breaks_off_is_never_less_json(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value)
    cut = data.draw(st.integers(1, len(text) - 1))
    with pytest.raises(UnreadableError, match="breaks off"):
        find_json("Here: " + text[:cut])


@pytest.mark.parametrize("text", ['{"a": NaN}', "{'a': 1}", '[{"a": 1,}]', "{a}"])
def test_what_is_almost_json(text: str) -> None:
    with pytest.raises(UnreadableError, match="is not valid JSON"):
        find_json(text)


def test_words_in_brackets_are_no_json() -> None:
    assert find_json("Boxes [in pixels]: [1]") == [[1]]
    assert find_json("none at all") == []


SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["cat", "dog"]},
        "parts": {"type": "array", "items": {"type": ["integer", "null"]}, "maxItems": 2},
        "size": {"anyOf": [{"type": "number", "minimum": 0}, {"const": "unknown"}]},
    },
    "required": ["label"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"label": "cat"}, None),
        ({"label": "dog", "parts": [1, None], "size": "unknown"}, None),
        ({"label": "cow"}, "the answer.label is none of 'cat', 'dog'"),
        ({"label": 1}, "the answer.label is not of type string"),
        ({}, "the answer has no 'label'"),
        ([], "the answer is not of type object"),
        ({"label": "cat", "x": 1}, "'x', which was not asked for"),
        ({"label": "cat", "parts": [1, "a"]}, r"parts\[1\] is not of type integer or null"),
        ({"label": "cat", "parts": [True]}, r"parts\[0\] is not of type"),
        ({"label": "cat", "parts": [1, 2, 3]}, "above its maxItems of 2"),
        ({"label": "cat", "size": -1}, "none of the shapes"),
    ],
)
def test_schema(value: Any, told: str | None) -> None:
    check_schema(SCHEMA)
    if told is None:
        check(value, SCHEMA)
        assert read_json(f"Sure: ```json\n{json.dumps(value)}\n```", SCHEMA) == value
    else:
        with pytest.raises(ValueError, match=told):
            check(value, SCHEMA)
        with pytest.raises(UnreadableError, match=told):
            read_json(json.dumps(value), SCHEMA)


@pytest.mark.parametrize(
    "schema", [[], {"pattern": "x"}, {"type": "text"}, {"items": {"oneOf": []}}]
)
def test_what_is_no_schema_here(schema: Any) -> None:
    with pytest.raises(ValueError, match="schema"):
        check_schema(schema)


def test_strict_schemas() -> None:
    closed = {"type": "object", "properties": {"a": {}}, "required": ["a"]}
    assert not is_strict(closed)
    assert is_strict({**closed, "additionalProperties": False})
    assert not is_strict({"type": "array", "items": closed})
    assert not is_strict(SCHEMA)


def test_the_last_value_of_the_shape_is_read() -> None:
    text = 'I thought {"label": "cat"} first, but it is {"label": "dog"}, not {"x": 1}'
    assert read_json(text, SCHEMA) == {"label": "dog"}
    with pytest.raises(UnreadableError, match="it has no JSON"):
        read_json("A dog.", SCHEMA)


def test_usage_is_summed() -> None:
    first, second = usage_of(1, 2), usage_of(10, 20, 31)
    assert first == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert summed(first, second) == dict(zip(first, (11, 22, 34), strict=True))
    assert summed(first, None) == first
    assert summed({}, second) == second
    assert usage_of(None, 2) == usage_of(True, 2) == usage_of(-1, 2) == {}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            Said("URL", "", refusal="I can't\nhelp"),
            "the model at URL refuses to answer: I can't help$",
        ),
        (
            Said("URL", "", finish="length", reasoning="hm"),
            "all of its 9 tokens for reasoning: allow",
        ),
        (Said("URL", "", finish="length"), "tokens for nothing that can be read: allow"),
        (Said("URL", "", finish="stop"), "gives an empty answer: try"),
        (Said("URL", "", finish="tool_calls"), r"empty answer \(it ended with 'tool_calls'\)"),
    ],
)
def test_answers_that_are_none(said: Said, told: str) -> None:
    with pytest.raises(InferenceError, match=told) as raised:
        check_said(said, 9)
    assert raised.value.usage is None


TEXT = asked_of(GenerationInput("m", "?"))
COLD = asked_of(GenerationInput("m", "?", temperature=0.0))
SHAPED = asked_of(GenerationInput("m", "?", schema=SCHEMA))


@pytest.mark.parametrize(
    ("said", "asked", "better"),
    [
        # The words of OpenAI, vLLM, LiteLLM and transformers.
        (
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            TEXT,
            Manners(tokens="max_completion_tokens"),
        ),
        ("max_tokens is too large: 100. This model supports at most 64 tokens", TEXT, Manners()),
        ("You are not allowed to request logprobs from this model.", TEXT, Manners(logprobs=False)),
        (
            "Unexpected fields in the request: {'logprobs', 'response_format'}",
            SHAPED,
            Manners(logprobs=False, structured=False),
        ),
        ("response_format.type: unknown", TEXT, Manners()),
        (
            "Unsupported value: 'temperature' does not support 1 with this model. "
            "Only the default (1) value is supported.",
            TEXT,
            Manners(temperature=False),
        ),
        ("Unsupported value: 'temperature' does not support 0 with this model.", COLD, Manners()),
        ("cannot identify image file", SHAPED, Manners()),
    ],
)
def test_manners_are_learned_from_refusals(said: str, asked: Any, better: Manners) -> None:
    assert Manners().after(said, asked) == better
    assert better.after(said, asked) == better
