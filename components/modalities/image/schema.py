"""What corpora, encoders and tasks of pictures say in their YAML files, gathered from a file each."""

from components.modalities.image.column_schema import Column as Column
from components.modalities.image.encoder_schema import ENCODERS as ENCODERS
from components.modalities.image.task_schema import TASKS as TASKS
