"""What the things, colours, looks and backgrounds of the demo's scenes are called, and captions in these words."""

import random
from typing import TYPE_CHECKING, Any

from components.generators.town import pick
from components.generators.vocabulary import counted

if TYPE_CHECKING:
    from components.generators.scenes import Scene

# Thing -> (Japanese, counter, English, its plural).
THINGS = {
    "circle": ("丸", "つ", "circle", "circles"),
    "square": ("四角", "つ", "square", "squares"),
    "triangle": ("三角", "つ", "triangle", "triangles"),
    "diamond": ("ひし形", "つ", "diamond", "diamonds"),
    "star": ("星", "つ", "star", "stars"),
    "heart": ("ハート", "つ", "heart", "hearts"),
    "cross": ("十字", "つ", "cross", "crosses"),
    "ring": ("輪", "つ", "ring", "rings"),
    "moon": ("三日月", "つ", "crescent moon", "crescent moons"),
    "arrow": ("矢印", "つ", "arrow", "arrows"),
    "house": ("家", "軒", "house", "houses"),
    "tree": ("木", "本", "tree", "trees"),
    "car": ("車", "台", "car", "cars"),
    "flower": ("花", "本", "flower", "flowers"),
    "umbrella": ("傘", "本", "umbrella", "umbrellas"),
    "cup": ("コップ", "つ", "cup", "cups"),
    "mushroom": ("きのこ", "本", "mushroom", "mushrooms"),
    "boat": ("船", "隻", "boat", "boats"),
    "cloud": ("雲", "つ", "cloud", "clouds"),
    "flag": ("旗", "本", "flag", "flags"),
}
# Colour -> (Japanese as it stands before a noun, English).
COLOURS = {
    "red": ("赤い", "red"),
    "blue": ("青い", "blue"),
    "green": ("緑の", "green"),
    "yellow": ("黄色い", "yellow"),
    "white": ("白い", "white"),
    "black": ("黒い", "black"),
    "purple": ("紫の", "purple"),
    "orange": ("オレンジの", "orange"),
    "pink": ("ピンクの", "pink"),
    "sky": ("水色の", "light blue"),
    "brown": ("茶色い", "brown"),
    "grey": ("灰色の", "grey"),
}
# Look -> (Japanese as it stands before a noun, English).
LOOKS = {
    "plain": ("", ""),
    "striped": ("しま模様の", "striped "),
    "dotted": ("水玉模様の", "dotted "),
    "hollow": ("線だけの", "outlined "),
}
# Background -> (Japanese as it stands before a noun, English).
BACKGROUNDS = {
    "white": ("白い", "white"),
    "black": ("黒い", "black"),
    "cream": ("クリーム色の", "cream"),
    "navy": ("紺色の", "navy"),
    "mint": ("薄緑の", "pale green"),
    "rose": ("桜色の", "pale pink"),
    "silver": ("銀色の", "silver"),
}
CLASHES = {
    "white": {"white"},
    "black": {"black"},
    "cream": {"white"},
    "navy": {"black", "blue"},
    "rose": {"pink"},
    "silver": {"grey", "white"},
}
"""Background -> colours that could not be told from it."""
PLACE_WORDS = {"beside": ("左", "右"), "above": ("上", "下")}
ENGLISH_PLACES = {"beside": ("on the left", "on the right"), "above": ("at the top", "at the bottom")}
NUMBER_WORDS = ("", "one", "two", "three", "four")


class Captions:
    """What is said of a scene, in wordings drawn by lot."""

    def __init__(self, rng: random.Random, scene: "Scene") -> None:
        self.scene = scene
        self.wording, self.other = rng.randrange(3), rng.randrange(1, 3)
        self.with_background = rng.randrange(2) == 1
        self.brief = pick(rng, (0, 1))
        self.wrong_number = pick(rng, [each for each in (1, 2, 3, 4) if each != scene.count])

    @staticmethod
    def composition(thing: str, colour: str) -> str:
        """A thing and its colour, such as 赤い星: the name of its class."""
        return COLOURS[colour][0] + THINGS[thing][0]

    def fields(self) -> dict[str, Any]:
        """The raw fields of captions and foils; a foil differs from the first caption alone by what is wrong."""
        full = self._full(self.scene.things, self.scene.count, self.wording)
        again = self._full(self.scene.things, self.scene.count, (self.wording + self.other) % 3)
        first = self._before_background(full) if self.with_background else full
        second = again if self.with_background else self._before_background(again)
        found: dict[str, Any] = {"captions": [first, second], "brief": self._brief(), "english": self._english()}
        return found | self._foils()

    def _foils(self) -> dict[str, str]:
        things = self.scene.things
        if len(things) == 1:
            return {"foil_count": self._foil(things, self.wrong_number)}
        (one, red), *between, (other, blue) = things
        return {
            "foil_order": self._foil(((other, blue), *between, (one, red)), 1),
            "foil_colour": self._foil(((one, blue), *between, (other, red)), 1),
        }

    def _foil(self, things: tuple[tuple[str, str], ...], count: int) -> str:
        said = self._full(things, count, self.wording)
        return self._before_background(said) if self.with_background else said

    def _before_background(self, said: str) -> str:
        return f"{BACKGROUNDS[self.scene.background][0]}背景で、{said}"

    def _named(self, thing: str, colour: str) -> str:
        return LOOKS[self.scene.look][0] + self.composition(thing, colour)

    def _full(self, things: tuple[tuple[str, str], ...], count: int, wording: int) -> str:
        """One of three wordings that name all things, their colours, places and number."""
        names = [self._named(*each) for each in things]
        if len(names) == 1:
            number = counted(count, THINGS[things[0][0]][1])
            return (f"{names[0]}が{number}ある", f"{number}の{names[0]}", f"{names[0]}が{number}")[wording]
        if self.scene.layout == "row":
            first, middle, last = names
            return (
                f"左に{first}、真ん中に{middle}、右に{last}がある",
                f"左から順に{first}、{middle}、{last}が並んでいる",
                f"{first}と{last}の間に{middle}があり、{first}が左、{last}が右",
            )[wording]
        (one, other), (here, there) = names, PLACE_WORDS[self.scene.layout]
        return (
            f"{here}に{one}、{there}に{other}がある",
            f"{other}の{here}に{one}がある",
            f"{here}が{one}で{there}が{other}",
        )[wording]

    def _brief(self) -> str:
        """Without places and numbers, and in one case of two without colours."""
        names = [self._named(*each) if self.brief else THINGS[each[0]][0] for each in self.scene.things]
        return "と".join(names)

    def _english(self) -> str:
        look = LOOKS[self.scene.look][1]
        count, plural = self.scene.count, self.scene.count > 1
        names = [f"{look}{COLOURS[colour][1]} {THINGS[thing][2 + plural]}" for thing, colour in self.scene.things]
        before = f"on a {BACKGROUNDS[self.scene.background][1]} background"
        if len(names) == 1:
            return f"{NUMBER_WORDS[count]} {names[0]} {before}"
        named = [f"a {name}" if name[0] not in "aeiou" else f"an {name}" for name in names]
        if self.scene.layout == "row":
            return f"{named[0]}, {named[1]} and {named[2]} from left to right {before}"
        here, there = ENGLISH_PLACES[self.scene.layout]
        return f"{named[0]} {here} and {named[1]} {there} {before}"
