"""Results survive their files, and the page says what the files say."""

import json

from benchmarks import report
from benchmarks.figures import Row, Spread
from benchmarks.machine import describe
from tests.conftest import ROOT

MACHINE = {
    "processor": "A",
    "num_cores": 2,
    "instructions": ["avx2"],
    "memory_gib": 23.5,
    "gpus": [],
    "versions": {"Python": "3.11.9", "torch": "2.11.0"},
}
RESULT = report.Result(
    "speed",
    "python -m benchmarks speed",
    [
        Row.compare("tokens per second", "a | b", [20.0, 30.0, 25.0], [10.0, 10.0, 12.5], at_least=1.25),
        Row("bits", "a baseline", Spread.of([3.5])),
    ],
    ["A note."],
    MACHINE,
    {"values": [1, 2]},
)


def test_a_result_is_read_back_as_it_was_saved(tmp_path):
    page = report.save(RESULT, tmp_path)
    assert report.load_all(tmp_path) == [RESULT]
    assert page.read_text(encoding="utf-8") == report.render([RESULT])


def test_the_table_has_ratio_spread_and_verdict():
    assert report.result_table([RESULT]).splitlines() == [
        "| benchmark | figure | Hiraku | peer | peer's figure | ratio | wanted |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| speed | tokens per second | 25 (20..30) | a \\| b | 10 (10..12.5) | 2.5 (2..3) | at least 1.25: yes |",
        "| speed | bits |  | a baseline | 3.5 |  |  |",
    ]


def test_the_page_gives_each_result_its_command_notes_and_machine():
    page = report.render([RESULT])
    assert (
        "## speed\n\n```bash\npython -m benchmarks speed\n```\n\n- A note.\n- Machine: A, 2 cores (avx2), 23.5 GiB,"
        in page
    )
    assert "Python 3.11.9, torch 2.11.0." in page


def test_the_shipped_page_is_what_the_shipped_files_say():
    folder = ROOT / report.RESULTS
    assert (folder / report.PAGE_NAME).read_text(encoding="utf-8") == report.render(report.load_all(folder))


def test_this_machine_can_be_described_in_one_line():
    machine = describe()
    assert json.loads(json.dumps(machine)) == machine
    words = report.machine_words(machine)
    assert "\n" not in words
    assert f"{machine['num_cores']} cores" in words
    assert "torch 2." in words
