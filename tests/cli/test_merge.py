"""The command `aarewrite merge`; what it adds up is tested with the parts."""

from __future__ import annotations

import json

from command import aa, failed


def test_it_needs_parts(tmp_path):
    failed(aa("merge"), 2, "PART.json")
    (tmp_path / "x.json").write_text(json.dumps({"passed": True}))
    failed(aa("merge", tmp_path / "x.json"), 2, "x.json: no partial result")
    (tmp_path / "x.json").write_text("[" * 100_000)
    failed(aa("merge", tmp_path / "x.json"), 2, "x.json: no partial result")
