"""The README's first command."""

import os
import subprocess

import pytest

from conftest import ROOT

pytestmark = [pytest.mark.quickstart, pytest.mark.timeout(1000),
              pytest.mark.skipif(os.environ.get("ECH_TUNNEL_VARIANT", "release") != "release",
                                 reason="quickstart builds and runs the release build")]


def quickstart(*arguments):
    return subprocess.run([ROOT / "tools" / "quickstart", *arguments], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900, check=False)


def test_quickstart():
    result = quickstart()
    assert result.returncode == 0, result.stdout
    assert "ECH accepted" in result.stdout
    assert "observer   saw the name cover.test" in result.stdout
    assert "1048576 bytes through SOCKS5" in result.stdout
    assert "1048576 bytes through HTTP CONNECT" in result.stdout


def test_unknown_argument():
    assert quickstart("--forever").returncode != 0
