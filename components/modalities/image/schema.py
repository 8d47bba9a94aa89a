"""What corpora, encoders and tasks of pictures say in their YAML files, gathered from a file each."""

from components.modalities.image.column_schema import Column as Column
from components.modalities.image.encoder_schema import ENCODERS as ENCODERS
from components.modalities.image.encoder_schema import Captions as Captions
from components.modalities.image.encoder_schema import Labels as Labels
from components.modalities.image.encoder_schema import Latents as Latents
from components.modalities.image.encoder_schema import Pixels as Pixels
from components.modalities.image.encoder_schema import Tower as Tower
from components.modalities.image.generation_schema import GENERATION_TASKS
from components.modalities.image.task_schema import TASKS as SEEING_TASKS

TASKS = SEEING_TASKS | GENERATION_TASKS
