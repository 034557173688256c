"""What every source is opened as."""

from __future__ import annotations

from aarewrite.data.dataset import Data, Loaded


def test_its_length_is_that_of_its_names():
    data = Data("arrays", "two", ("a", "b"), lambda i: Loaded([]))
    assert len(data) == 2
    assert data.load(0).remark == ""


def test_some_of_it_in_another_order():
    data = Data("arrays", "all", ("a", "b", "c"), lambda i: Loaded([], str(i)), (5, 6, 7), {6: "six"})
    some = data.only([2, 1], "two")
    assert (some.names, some.labels, some.clusters, some.description) == (("c", "b"), (7, 6), None, "two")
    assert [some.load(i).remark for i in (0, 1)] == ["2", "1"]
    assert some.class_names == {6: "six"}
