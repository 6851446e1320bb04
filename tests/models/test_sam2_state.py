"""A session's state: going on from it is going on without it, and it is read with suspicion."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixano_cli.errors import ModelError
from pixano_cli.models.tracking import ObjectPrompt

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from . import tiny_sam2  # noqa: E402
from .sam2_pair import (  # noqa: E402
    BOX,
    COUNT,
    HEIGHT,
    MASK,
    POINTS,
    WIDTH,
    Pair,
    Prompts,
)

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS: Prompts = [
    (0, BOX),
    (0, POINTS),
    (0, ObjectPrompt(1, points=((15.0, 8.0),), labels=(0,))),
    (12, MASK),
    (19, ObjectPrompt(1, box=(30.0, 20.0, 60.0, 50.0))),
]
ADDED = ObjectPrompt(9, box=(2.0, 3.0, 30.0, 40.0))


@pytest.fixture
def begun(pair: Pair) -> Pair:
    pair.use_clip(COUNT)
    return pair


def new_session(pair: Pair) -> Any:
    session = pair.session()
    for frame, prompt in PROMPTS:
        session.condition(frame, pair.frames[frame], [prompt])
    return session


def test_going_on_from_a_state_is_going_on_without(begun: Pair) -> None:
    session = new_session(begun)
    states, answers = [], []
    for frame in range(COUNT):
        states.append(session.state())
        answers.append(session.step(frame, begun.frames[frame]))
    assert len({json.dumps([each.mask.to_dict() for each in a.values()]) for a in answers}) > 20
    last = session.state()
    for beginning in (0, 1, 5, 12, 13, 19, 20, 24):
        again = begun.session(states[beginning])
        for frame in range(beginning, COUNT):
            assert again.step(frame, begun.frames[frame]) == answers[frame]
        assert again.state() == last
        again.close()


def test_prompts_after_going_on(begun: Pair) -> None:
    """New objects in the frame reached, and points that add to those from before the state."""
    more = ObjectPrompt(4, points=((52.0, 32.0),), labels=(1,))
    ahead = ObjectPrompt(1, points=((50.0, 30.0),), labels=(0,))

    def go_on(session: Any) -> list[Any]:
        found = [
            session.condition(8, begun.frames[8], [ADDED]),
            session.condition(8, begun.frames[8], [ObjectPrompt(9, points=((9, 9),), labels=(0,))]),
            session.condition(12, begun.frames[12], [more]),
            session.condition(19, begun.frames[19], [ahead]),
        ]
        return found + [session.step(frame, begun.frames[frame]) for frame in range(9, COUNT)]

    session = new_session(begun)
    for frame in range(9):
        session.step(frame, begun.frames[frame])
    state = session.state()
    assert go_on(begun.session(state)) == go_on(session)


def test_a_state_does_not_grow(begun: Pair) -> None:
    session = begun.session()
    session.condition(0, begun.frames[0], [BOX])
    sizes = []
    for frame in range(COUNT):
        session.step(frame, begun.frames[frame])
        sizes.append(len(session.state()))
    # Frame numbers have more digits later on.
    assert max(sizes[17:]) - min(sizes[17:]) < 200


def test_a_state_of_nothing(begun: Pair) -> None:
    session = begun.session(begun.session().state())
    assert session.step(0, begun.frames[0]) == {}
    assert begun.session(session.state()).step(1, begun.frames[1]) == {}


@pytest.fixture(scope="module")
def state(pair: Pair) -> bytes:
    pair.use_clip(COUNT)
    session = new_session(pair)
    session.step(0, pair.frames[0])
    written: bytes = session.state()
    return written


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 2**20), change=st.integers(1, 255))
def test_a_damaged_state(begun: Pair, state: bytes, place: int, change: int) -> None:
    damaged = bytearray(state)
    damaged[place % len(state)] ^= change
    with pytest.raises(ModelError, match="damaged"):
        begun.session(bytes(damaged))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_no_state(begun: Pair, state: bytes, data: st.DataObject) -> None:
    foreign = data.draw(
        st.one_of(st.binary(max_size=200), st.integers(0, len(state) - 1).map(lambda n: state[:n]))
    )
    with pytest.raises(ModelError):
        begun.session(foreign)


def sealed(content: bytes) -> bytes:
    from hashlib import sha256

    return content + sha256(content).digest()


def test_a_whole_file_that_is_no_state(begun: Pair) -> None:
    from safetensors.torch import save

    for content in (b"", b"{}", b"\xff" * 64, save({"a": torch.zeros(2)})):
        with pytest.raises(ModelError, match="no state of tracking"):
            begun.session(sealed(content))
    other = save({}, metadata={"pixano-annotate": json.dumps({"format": "sam2-session-99"})})
    with pytest.raises(ModelError, match="sam2-session-99"):
        begun.session(sealed(other))


def test_a_state_that_lacks_something(begun: Pair, state: bytes) -> None:
    from safetensors.torch import load, save

    content = state[:-32]
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    tensors = load(content)
    del tensors["1/c/0/pointer"]
    with pytest.raises(ModelError, match="incomplete"):
        begun.session(sealed(save(tensors, metadata=metadata)))


def test_a_state_of_another_model_or_video(begun: Pair, state: bytes, tmp_path: Any) -> None:
    model = begun.model
    weights = tiny_sam2.save_weights(tiny_sam2.official(certainty=2.0), tmp_path / "other.pt")
    other = tiny_sam2.tracker(weights)
    with pytest.raises(ModelError, match="another model"):
        other.open_session(WIDTH, HEIGHT, state, length=COUNT)
    with pytest.raises(ModelError, match="a video of"):
        model.open_session(HEIGHT, WIDTH, state, length=COUNT)
    with pytest.raises(ModelError, match="a video of"):
        model.open_session(WIDTH, HEIGHT, state, length=COUNT + 1)
    model.open_session(WIDTH, HEIGHT, state, length=COUNT).close()
