"""Notebooks whose folders, names and titles are Korean, or hold what papermill and the shell would read as code."""

from __future__ import annotations

import unicodedata

import pytest

from quotas.domain.schedules import ExecutionState
from tests.batch.conftest import Platform


@pytest.mark.parametrize(
    ("notebook", "title"),
    [
        ("2026 실험/야간 학습 1.ipynb", "야간 학습: 2호기"),
        ("{a}/{pm.run_uuid} %s $HOME.ipynb", "{0.__class__} %d `id` $(id)"),
        ("-rf 'x' \"y\".ipynb", "--output"),
        (unicodedata.normalize("NFD", "분석.ipynb"), "맥에서 올린 파일"),
    ],
)
def test_a_run_keeps_its_names_from_the_schedule_to_the_output(platform: Platform, notebook: str, title: str) -> None:
    source = "import os; print('여기', os.path.basename(os.getcwd()))\nopen('결과.csv', 'w').write('정확도,0.97')"
    path = platform.notebook(notebook, source, parameters="이름 = '가'")
    schedule = platform.due(path, {"이름": "나 {x} '\"\\"}, title=title)
    platform.scheduler().run_once()
    found = platform.only(schedule)
    assert found.state is ExecutionState.SUCCEEDED, (found.reason_en, found.log)
    folder = (platform.folder / notebook).parent
    assert f"여기 {folder.name}" in str(found.log)
    assert (folder / "결과.csv").read_text() == "정확도,0.97"
    output = platform.folder / str(found.output)
    assert output.name == "output.ipynb"
    assert output.resolve().is_relative_to(platform.folder.resolve() / "runs")
    assert "나 {x}" in output.read_text()
    if "야간" in title:
        assert "야간-학습-2호기" in output.parent.name
    assert (found.notebook, found.title) == (notebook, title)
