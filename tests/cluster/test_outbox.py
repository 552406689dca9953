"""What the engine may send is bounded before it reaches a connection."""

from __future__ import annotations

from crdtdb.cluster.engine.actions import Log, Outbox, Send
from crdtdb.limits import FRAME_BYTES_MAX
from crdtdb.wire.messages import Rumor, SyncHint


def test_a_message_beyond_the_frame_is_said_aloud_and_not_sent() -> None:
    outbox = Outbox()
    outbox.send(1, Rumor([[], [], ["notes"], [], None, [[0, "d", b"x" * FRAME_BYTES_MAX]]], ()))
    outbox.send(1, SyncHint())
    log, sent = outbox.take()
    assert isinstance(log, Log)
    assert log.level == "ERROR"
    assert "notes/d can't be sent" in log.text
    assert isinstance(sent, Send)
    assert outbox.take() == []
    assert outbox.sent["synchint"] == [1, 6]
