"""The words of the demo world: its colours, things, people, shops and places.

Text, instructions, scenes and transcripts of the demo share them, so that what one model learns another can name.
"""

from dataclasses import dataclass

TOWN = "星見町"
DISTRICTS = ("駅前", "港", "川べり", "丘の上", "坂の下", "森のそば", "橋のたもと", "広場の隣")
WEEKDAYS = ("月曜日", "火曜日", "水曜日", "木曜日", "金曜日", "土曜日", "日曜日")
DIGITS = ("零", "一", "二", "三", "四", "五", "六", "七", "八", "九", "十")


def _words(*lines: str) -> tuple[str, ...]:
    """Words written with spaces between."""
    return tuple(word for line in lines for word in line.split())


@dataclass(frozen=True)
class Colour:
    """A colour as a noun and as it stands before a noun."""

    noun: str
    before_noun: str


RED, BLUE, YELLOW, WHITE, BLACK, BROWN, GREEN, PURPLE, PINK, GREY = COLOURS = (
    Colour("赤", "赤い"),
    Colour("青", "青い"),
    Colour("黄色", "黄色い"),
    Colour("白", "白い"),
    Colour("黒", "黒い"),
    Colour("茶色", "茶色い"),
    Colour("緑", "緑の"),
    Colour("紫", "紫の"),
    Colour("ピンク", "ピンクの"),
    Colour("灰色", "灰色の"),
)
FLOWER_COLOURS = (RED, WHITE, YELLOW, PINK, PURPLE)
PAINTS = (RED, BLUE, YELLOW, BLACK, GREEN, PURPLE)
SHAPES = ("丸", "三角", "四角", "星", "月", "ハート")


@dataclass(frozen=True)
class Thing:
    """Something one can count and buy; `price_yen` is the same all over the town."""

    name: str
    counter: str
    price_yen: int
    colours: tuple[Colour, ...] = ()


def _things(counter_and_prices: str, colours: tuple[Colour, ...] = ()) -> tuple[Thing, ...]:
    """Read `name counter price` triples."""
    words = counter_and_prices.split()
    return tuple(
        Thing(name, counter, int(price), colours)
        for name, counter, price in zip(words[::3], words[1::3], words[2::3], strict=True)
    )


WARES: dict[str, tuple[Thing, ...]] = {
    "花屋": _things("バラ 本 250 チューリップ 本 180 カーネーション 本 150 ユリ 本 320", FLOWER_COLOURS),
    "文房具屋": _things("鉛筆 本 60 ノート 冊 140 色紙 枚 20 消しゴム 個 80 筆箱 個 750 絵の具 本 210", COLOURS),
    "服屋": _things("帽子 個 1800 シャツ 枚 2400 マフラー 本 1600 セーター 枚 3500 靴下 足 450 靴 足 4200", COLOURS),
    "雑貨屋": _things("傘 本 1200 かばん 個 2800 コップ 個 380 皿 枚 520 花瓶 個 960 タオル 枚 340", COLOURS),
    "おもちゃ屋": _things("ボール 個 640 風船 個 50 人形 体 1500 こま 個 270 ミニカー 台 480", COLOURS),
    "八百屋": _things("にんじん 本 70 大根 本 190 トマト 個 110 玉ねぎ 個 50 じゃがいも 個 40 きゅうり 本 60"),
    "果物屋": _things("りんご 個 130 みかん 個 60 バナナ 本 90 桃 個 240 梨 個 220 柿 個 120"),
    "パン屋": _things("あんパン 個 140 メロンパン 個 170 カレーパン 個 190 サンドイッチ 個 290 ドーナツ 個 120"),
    "魚屋": _things("さば 匹 280 さんま 匹 160 あじ 匹 130 いわし 匹 80 たい 匹 900"),
    "本屋": _things("絵本 冊 1100 図鑑 冊 2300 小説 冊 700 漫画 冊 460 辞書 冊 1900"),
    "菓子屋": _things("ケーキ 個 360 だんご 本 100 せんべい 枚 70 プリン 個 200 大福 個 150 クッキー 枚 90"),
}
"""Each kind of shop and what it sells; the town has one of each."""

BELONGINGS = tuple(
    thing
    for thing in (*WARES["雑貨屋"], *WARES["おもちゃ屋"], *WARES["文房具屋"], *WARES["服屋"])
    if thing.name not in ("色紙", "絵の具", "靴下", "風船", "皿", "タオル")
)
"""Things a person owns one of."""

CHILDREN = _words(
    "太郎 花子 健太 ゆうこ 翔 美咲 蓮 結衣 悠斗 さくら 大和 美羽",
    "颯太 莉子 陸 七海 優斗 詩織 拓海 千夏 一樹 ひなた 次郎 ももこ",
)
ADULTS = _words(
    "直樹 陽子 大輔 真由美 誠 由美 隆 京子 健一 明美 浩 幸子 和夫 恵子 修 久美子",
    "亮 彩 洋平 智子 剛 千春 哲也 理恵 進 裕子 学 早苗 豊 奈緒 武 香織",
)
ELDERS = _words("茂 静江 正男 節子 清 文子 勝 良子")

PUPIL = "小学生"
JOBS: dict[str, str] = {
    "医者": "病院",
    "看護師": "病院",
    "駅員": "駅",
    "運転手": "駅",
    "漁師": "港",
    "警察官": "交番",
    "郵便局員": "郵便局",
    "銀行員": "銀行",
    "消防士": "消防署",
    "大工": "工場",
    "料理人": "食堂",
    "司書": "図書館",
    "農家": "畑",
    "画家": "アトリエ",
    "写真家": "写真館",
    "美容師": "美容院",
    "記者": "新聞社",
}
"""Each job and where it is done; keepers of shops and teachers come beside these."""

FOODS = _words(
    "カレー すし ラーメン うどん そば おにぎり 天ぷら 焼き魚",
    "オムレツ ハンバーグ みそ汁 ぎょうざ たこ焼き グラタン",
)
HOBBIES = _words("釣り 読書 料理 散歩 水泳 写真 将棋 ピアノ 絵 山登り サッカー 野球 編み物 書道 テニス 歌")
SUBJECTS = ("国語", "算数", "理科", "社会")
PLACES = _words(
    "机の上 椅子の下 棚の上 引き出しの中 玄関 窓のそば",
    "ベッドの下 台所 本棚の横 押し入れの中 階段の下 ソファの上",
)
"""Places of a house; each takes the particle に."""
OUTDOORS = _words("公園 神社 川原 海岸 校庭 広場 橋の上 畑の横 駅の前 森の入り口")
SIGHTS = ("駅", "図書館", "公園", "学校", "病院", "神社", "市場", "郵便局", "海岸", "食堂")

PETS: dict[str, tuple[str, tuple[Colour, ...]]] = {
    "犬": ("匹", (WHITE, BLACK, BROWN)),
    "猫": ("匹", (WHITE, BLACK, BROWN, GREY)),
    "うさぎ": ("匹", (WHITE, BROWN, GREY)),
    "小鳥": ("羽", (BLUE, YELLOW, GREEN, WHITE)),
    "金魚": ("匹", (RED, BLACK)),
    "亀": ("匹", (GREEN, BROWN)),
}
"""Each kind of pet, its counter and the colours it comes in."""
PET_NAMES = _words(
    "ポチ タマ ハチ ミミ ソラ ココ チビ マル コタロウ リン モカ レオ ナナ フク トラ ルル ベル",
    "チャチャ ムギ キナコ ゴマ アズキ ラテ サスケ ヒメ ノア テツ ユズ コハク マロン ポン ペペ",
    "キキ ララ ジロ ボタン スズ ツキ カイ ドン",
)


@dataclass(frozen=True)
class Festival:
    """A day of the year on which the town meets; always the same day, place and custom."""

    name: str
    month: int
    day: int
    place: str
    food: str
    custom: tuple[str, str]
    """What people do, plain and polite, past tense."""


FESTIVALS = (
    Festival("梅まつり", 2, 18, "神社", "大福", ("梅の花を見た", "梅の花を見ました")),
    Festival("桜まつり", 4, 5, "公園", "だんご", ("桜の木の下で歌った", "桜の木の下で歌いました")),
    Festival("港まつり", 5, 20, "港", "いか焼き", ("船に乗った", "船に乗りました")),
    Festival("星まつり", 7, 7, "丘の上", "わたあめ", ("短冊に願いごとを書いた", "短冊に願いごとを書きました")),
    Festival("夏まつり", 8, 15, "広場", "かき氷", ("みんなで踊った", "みんなで踊りました")),
    Festival("月見まつり", 9, 24, "川べり", "だんご", ("月をながめた", "月をながめました")),
    Festival("秋まつり", 10, 12, "神社", "焼きいも", ("みこしをかついだ", "みこしをかつぎました")),
    Festival("雪まつり", 1, 28, "校庭", "おしるこ", ("雪だるまを作った", "雪だるまを作りました")),
)


def kanji_number(number: int) -> str:
    """A number from 0 to 99 in kanji."""
    if not 0 <= number <= 99:
        raise ValueError(f"{number} is not between 0 and 99")
    tens, ones = divmod(number, 10)
    if tens == 0:
        return DIGITS[ones]
    return (DIGITS[tens] if tens > 1 else "") + "十" + (DIGITS[ones] if ones else "")


def counted(number: int, counter: str) -> str:
    """A number with its counter, such as 三本."""
    return kanji_number(number) + counter
