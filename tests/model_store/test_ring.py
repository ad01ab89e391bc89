"""The ring of buffers: order, and errors that end it."""

import pytest

from model_store.ring import N_BUFFERS, Ring


def run(ring, blocks):
    ring.start()
    try:
        for content in blocks:
            block = ring.take()
            block.size = len(content)
            block.buffer[: block.size] = content
            ring.give(block)
    except BaseException:
        ring.join()
        raise
    ring.finish()


def test_each_worker_sees_all_blocks_in_order():
    first, second = [], []
    ring = Ring(
        [lambda b: first.append(bytes(b)), lambda b: second.append(bytes(b))], 4
    )
    blocks = [b"%d" % number for number in range(10 * N_BUFFERS)]
    run(ring, blocks)
    assert (blocks, blocks) == (first, second)


def test_a_worker_that_fails_stops_the_reader_and_not_the_others():
    seen = []

    def fail(block):
        if bytes(block) == b"3":
            raise OSError(28, "full")

    ring = Ring([fail, lambda block: seen.append(bytes(block))], 4)
    blocks = [b"%d" % number for number in range(100)]
    with pytest.raises(OSError, match="full"):
        run(ring, blocks)
    assert blocks[: len(seen)] == seen
    assert 4 <= len(seen) < 100


def test_a_failure_on_the_last_block_is_told_too():
    def fail(_):
        raise KeyError("late")

    with pytest.raises(KeyError, match="late"):
        run(Ring([fail], 4), [b"x"])
