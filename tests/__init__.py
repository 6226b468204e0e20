"""Tests; their helpers are in tests/support."""

import pytest

pytest.register_assert_rewrite("tests.support")
