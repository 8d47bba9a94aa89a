"""The texts by which items of a task are known again in training data."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from components.modalities.text.schema import Answering, Harness, HeldOutBits, PreferenceAccuracy
from components.modalities.text.scoring import first_by_hash


def task_texts(
    task: Any, read: Callable[..., Iterable[Any]], told: Callable[[str], None] = lambda _: None
) -> Iterator[tuple[str, list[str]]]:
    """(item, its texts) of a task whose kind has `CAN_LEAK`.

    Of a document it is the document; of questions and pairs what is asked last and the better answer: turns before that
    are context. Of a task of lm-eval they are the fields that its file names.

    Args:
        task: the task's section.
        read: (corpus, columns, splits) -> rows with `id` and those columns.
        told: receives what has no items here, and why, of tasks that are made of several.
    """
    if isinstance(task, HeldOutBits):
        for row in first_by_hash(read(task.corpus, [task.column], splits={task.split}), task.max_documents):
            yield row["id"], [row[task.column]]
    elif isinstance(task, PreferenceAccuracy):
        rows = read(task.corpus, [task.column, "source"], splits={task.split})
        of_sources = (row for row in rows if not task.sources or row["source"] in task.sources)
        for row in first_by_hash(of_sources, task.max_pairs):
            value = json.loads(row[task.column])
            yield row["id"], [value["messages"][-1]["content"], value["chosen"]]
    elif isinstance(task, Answering):
        for row in first_by_hash(read(task.corpus, [task.column], splits={task.split}), task.max_items):
            messages = json.loads(row[task.column])["messages"]
            yield row["id"], [message["content"] for message in messages[-2:]]
    elif isinstance(task, Harness):
        from components.modalities.text.harness import texts_of_items

        yield from texts_of_items(task, read, told)
