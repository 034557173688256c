"""What every source is opened as."""

from __future__ import annotations

from aarewrite.data.dataset import Data, Loaded


def test_its_length_is_that_of_its_names():
    data = Data("arrays", "two", ("a", "b"), lambda i: Loaded([]))
    assert len(data) == 2
    assert data.load(0).remark == ""
