"""One question to one model, from the asking to the reading, and who is to blame for an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from pixano_cli.errors import PixanoAnnotateError
from pixano_cli.inference.errors import InferenceError, InvalidRequestError
from pixano_cli.inference.providers.loading import AnyModel, LocalModel, one_line
from pixano_cli.inference.types import InferenceTask

AnswerT = TypeVar("AnswerT")


def _predict(model: AnyModel, model_input: BaseModel) -> Any:
    return model.predict(model_input)


@dataclass(frozen=True, slots=True)
class Question(Generic[AnswerT]):
    """What a model is asked, and how its output is read.

    Attributes:
        subject: What it is about, for errors: an image's name.
        model_input: The capability's input.
        read: Makes the documented answer of the model's output; raises ValueError if that is not
            what is promised.
        predict: Asks the model, given it and the input, about one input alone.
    """

    subject: str
    model_input: BaseModel
    read: Callable[[Any], AnswerT]
    predict: Callable[[Any, Any], Any] = _predict


@dataclass(frozen=True, slots=True)
class Answered(Generic[AnswerT]):
    """An answer, how long it took in seconds, and the model's metadata."""

    data: AnswerT
    seconds: float
    metadata: dict[str, Any]


@contextmanager
def asking(model: LocalModel, subject: str) -> Iterator[None]:
    """Turn whatever a plugin raises into one line that names the model and the image.

    Args:
        model: The model that is asked.
        subject: What it is asked about.

    Raises:
        InvalidRequestError: In place of a segmenter's ValueError: prompts are many and ragged, so
            segmenters check them, and refuse them so.
        InferenceError: In place of anything else that is not an error of this tool already.
    """
    try:
        yield
    except PixanoAnnotateError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and model.task is InferenceTask.MASK_GENERATION:
            reason = one_line(error).removeprefix("ValueError: ")
            raise InvalidRequestError(
                f"model {model.name!r} refuses the request for {subject}: {reason}"
            ) from error
        raise _failure(model, subject, error) from error


def answer_alone(
    model: LocalModel, ask: Callable[[LocalModel], Question[AnswerT]]
) -> Answered[AnswerT]:
    """Read, decode, predict and translate, all on this thread.

    Raises:
        PixanoAnnotateError: If any of it fails.
    """
    with model.in_use() as loaded:
        start = perf_counter()
        question = ask(model)
        with asking(model, question.subject):
            output = question.predict(loaded, question.model_input)
        return read_answer(model, question, output, start)


def read_answer(
    model: LocalModel, question: Question[AnswerT], output: Any, start: float
) -> Answered[AnswerT]:
    """Make the documented answer of a model's output; `start` is when `perf_counter` began.

    Raises:
        InferenceError: If the output is not what the capability promises.
    """
    try:
        data = question.read(output)
    except Exception as error:
        raise _failure(model, question.subject, error) from error
    return Answered(data, perf_counter() - start, model.metadata)


def _failure(model: LocalModel, subject: str, error: Exception) -> InferenceError:
    return InferenceError(f"model {model.name!r} failed on {subject}: {one_line(error)}")
