"""Raw text becomes clean text: each filter alone, and the characters they count."""

import unicodedata

import pytest

from components.characters import CLASSES, count_classes, is_damaged, japanese_share, language_of
from components.modalities import Rejected
from components.modalities.text import checking, cleaning
from components.modalities.text.schema import Column


def clean(text, **filters):
    return cleaning.reader(Column(modality="text", filters=filters))(text)


def reason(text, **filters):
    with pytest.raises(Rejected) as rejected:
        clean(text, **filters)
    return str(rejected.value)


def test_line_ends_and_marks_go_and_indentation_stays():
    assert clean("\ufeff\r\n　\n　一段落目。\r\n二行目\r  三行目 \n\n") == "　一段落目。\n二行目\n  三行目"


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_unicode_forms_are_those_of_the_standard(form):
    text = "ｶﾞｷﾞ か\u3099 ①㍿ Ａ"
    assert clean(text, unicode_form=form) == unicodedata.normalize(form, text)
    assert clean(text, unicode_form="none") == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("電話は090-1234-5678まで", "電話はXXX-XXXX-XXXXまで"),
        ("連絡先 taro@example.ne.jp です", "連絡先 xxxx@yyy.jp です"),
        ("連絡先はありません", "連絡先はありません"),
    ],
)
def test_personal_information_is_masked_when_asked(text, masked):
    assert clean(text, mask_personal_information=True) == masked
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("０３（１２３４）５６７８", "XX（XXXX）XXXX"),
        ("06(0222)0925", "XX(XXXX)XXXX"),
        ("090ー1234ー5678", "XXXーXXXXーXXXX"),
        ("TEL 0312345678", "TEL XXXXXXXXXX"),
        ("+81 9808 1 2345", "+XX XXXX X XXXX"),
        ("〒１５０－０００１", "〒XXX－XXXX"),
        ("150-0001 東京都", "XXX-XXXX 東京都"),
        ("4111 1111 1111 1111", "XXXX XXXX XXXX XXXX"),
        ("４１１１－１１１１－１１１１－１１１１", "XXXX－XXXX－XXXX－XXXX"),
        ("メーadmin＠example.co.jp。", "メーxxxx@yyy.jp。"),
        ("taro [at] example.com", "xxxx@yyy.com"),
    ],
)
def test_personal_information_is_masked_in_both_widths(text, masked):
    assert clean(text, mask_personal_information=True) == masked


@pytest.mark.parametrize(
    "text",
    [
        "ISBN978-4-06-519510-4",
        "2010-01-02から2011/12/31",
        "3.14159265358979",
        "1990 1991 1992 1993",
        "4111 1111 1111 1112",  # the check digit is wrong
        "icon@2x.png git@github.com:a/b",
        "第3-1234-5678号",
        "123-4567",
        "0123456789",
    ],
)
def test_numbers_that_are_nobodys_stay(text):
    assert clean(text, mask_personal_information=True) == text


def test_kinds_of_personal_information_can_be_chosen():
    text = "03-1234-5678 a@example.com"
    assert clean(text, mask_personal_information=["email"]) == "03-1234-5678 xxxx@yyy.com"


def test_one_word_of_a_list_in_a_long_text_does_not_reject_it():
    novel = "普通の文章です。" * 200 + "このAV女優は有名です。"
    assert clean(novel, drop_adult_content=True) == novel
    assert "adult content" in reason(novel, drop_adult_content=True, adult_words_per_1000_chars=0)


def test_texts_that_repeat_themselves_or_break_off_are_rejected_when_asked():
    assert "max_repeated_share" in reason("安い靴を買うなら" * 100, max_repeated_share=0.33)
    assert "max_ellipsis_share" in reason("続きは…\n詳しくは…\n以下…", max_ellipsis_share=0.3)
    assert "max_run_chars" in reason("あ" * 30, max_run_chars=20)
    text = "春はあけぼの。やうやう白くなりゆく山ぎは、少し明かりて。\nーーーーーーーーーー"
    assert clean(text, max_repeated_share=0.33, max_ellipsis_share=0.3, max_run_chars=20) == text


def test_masking_a_long_run_of_letters_ends():
    # A pattern that begins anew at each letter takes time that grows with the square: hours for this text.
    text = "データ:" + "QUJD" * 100_000 + "\n電話は090-1234-5678"
    assert clean(text, mask_personal_information=True) == text[:-13] + "XXX-XXXX-XXXX"


def test_tags_at_both_ends_go_and_sentences_with_the_same_word_stay():
    text = "トップページ\n検索エンジンは便利です。\n本文です。\n続きです。\n終わりです。\n前の記事"
    kept = "検索エンジンは便利です。\n本文です。\n続きです。\n終わりです。"
    assert clean(text, drop_headers_and_footers=True) == kept
    assert reason("トップページ\n前の記事", drop_headers_and_footers=True) == "empty"


@pytest.mark.parametrize("text", ["吾輩は\ufffd猫である", "縺薙ｓ縺ｫ縺｡縺ｯ"])
def test_damaged_text_is_rejected_when_asked_and_is_what_validate_calls_damaged(text):
    assert "filters.drop_damaged" in reason(text, drop_damaged=True)
    assert clean(text) == text
    assert checking.check(text)["damaged"]
    assert clean("吾輩は猫である", drop_damaged=True) == "吾輩は猫である"


def test_advertisements_and_adult_content_are_rejected_when_asked():
    advertisement = "お問い合わせください 営業時間 送料 よくある質問 " * 5
    assert reason(advertisement, drop_advertisements=True) == "advertisement (filters.drop_advertisements)"
    adult = "このAV女優は有名です。"
    assert reason(adult, drop_adult_content=True) == "adult content (filters.drop_adult_content)"
    assert clean(advertisement) == advertisement.rstrip()
    assert clean("普通の文章です。", drop_advertisements=True, drop_adult_content=True) == "普通の文章です。"


def test_length_counts_characters_after_cleaning():
    assert clean("四文字だ\n", min_chars=4, max_chars=4) == "四文字だ"
    assert "min_chars" in reason("三文字", min_chars=4)
    assert "max_chars" in reason("五文字です", max_chars=4)


def test_english_is_rejected_under_a_japanese_share():
    assert "min_japanese_share" in reason("This is English text.", min_japanese_share=0.5)
    assert clean("これはPythonです。", min_japanese_share=0.4)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("これは日本語、カタカナ。123", 1.0),
        ("ｶﾀｶﾅー々〆〇", 1.0),
        ("abcあいう", 0.5),
        ("ＡＢＣ漢", 0.25),
        ("𠮟る", 1.0),
        ("한국어", 0.0),
        ("123 !?。", 0.0),
        ("", 0.0),
    ],
)
def test_the_japanese_share_is_over_letters(text, share):
    assert japanese_share(count_classes(text)) == share


def test_characters_are_counted_by_class():
    counts = dict(zip(CLASSES, count_classes("あアｱ漢々aＡé한1１ \n　。!😀"), strict=True))
    assert counts == {
        "hiragana": 1,
        "katakana": 2,
        "kanji": 2,
        "latin": 3,
        "other_letter": 1,
        "digit": 2,
        "space": 3,
        "punctuation": 2,
        "other": 1,
    }


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("これは日本語です", "ja"),
        ("An English text", "en"),
        ("這是中文", "other"),
        ("한국어", "other"),
        ("123", "other"),
    ],
)
def test_language_is_guessed_by_script(text, language):
    assert language_of(count_classes(text)) == language


SENTENCE = "これはペンです。プログラムを作る。"


@pytest.mark.parametrize(
    "text",
    [
        SENTENCE.encode().decode("cp932", "ignore"),
        SENTENCE.encode().decode("latin-1"),
        SENTENCE.encode().decode("cp1252", "ignore"),
        SENTENCE.encode("cp932").decode("latin-1"),
        SENTENCE.encode("euc_jp").decode("latin-1"),
        SENTENCE.encode("cp932").decode("utf-8", "replace"),
        "空白\x00文字",
    ],
)
def test_text_decoded_with_the_wrong_table_is_damaged(text):
    assert is_damaged(text)


@pytest.mark.parametrize(
    "text", [SENTENCE, "糸が縺れる、繧繝彩色", "São Paulo não é", "価格は¥1,000、¤は通貨", "a\tb\nc", "😀"]
)
def test_honest_text_is_not_damaged(text):
    assert not is_damaged(text)


def test_facts_of_a_text_are_those_counted_by_hand():
    facts = checking.check("猫はcat。\n")
    assert facts["num_chars"] == 7
    assert facts["num_bytes"] == 3 + 3 + 3 + 3 + 1
    assert facts["japanese_share"] == 0.4
    assert facts["language"] == "ja"
    assert facts["damaged"] is False
    assert sum(facts[f"num_chars/{name}"] for name in CLASSES) == facts["num_chars"]
