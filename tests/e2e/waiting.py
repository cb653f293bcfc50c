"""Waiting for a condition with a deadline: the only place of the end-to-end tests that sleeps."""

import os
import time

# Sanitizers slow a process down by up to an order of magnitude.
SLOWNESS = {"asan": 3, "tsan": 6}.get(os.environ.get("ECH_TUNNEL_VARIANT", ""), 1)


def wait_until(condition, timeout=15.0, what="condition"):
    """Polls until condition() is true and returns its value; AssertionError after the deadline."""
    end = time.monotonic() + timeout * SLOWNESS
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"gave up after {timeout * SLOWNESS} s waiting for {what}")
        time.sleep(0.02)


def settle(read, quiet=1.0, timeout=30.0):
    """Waits until read() has returned the same value for `quiet` seconds, and returns that value."""
    end = time.monotonic() + timeout * SLOWNESS
    value, since = read(), time.monotonic()
    while time.monotonic() - since < quiet:
        assert time.monotonic() < end, f"did not settle within {timeout * SLOWNESS} s: {value}"
        time.sleep(0.02)
        now = read()
        if now != value:
            value, since = now, time.monotonic()
    return value
