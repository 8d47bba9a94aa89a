"""The one table of where a corpus comes from: the kind of its source -> what it says of it."""

from components.captioning_schema import Captioned
from components.filtering_schema import Filtered
from components.painters.schema import Drawn
from components.source_schema import Files
from components.translators.schema import Translated
from components.voices.schema import Spoken
from models.schema import Strict

SOURCES: dict[str, type[Strict]] = {
    "files": Files,
    "translated": Translated,
    "spoken": Spoken,
    "drawn": Drawn,
    "captioned": Captioned,
    "filtered": Filtered,
}
