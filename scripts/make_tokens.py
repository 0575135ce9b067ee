"""Token ids that open_clip's tokenizer gives for awkward sentences: what tests/suite/tokenize.rs holds ours to.

    pip install open_clip_torch
    python scripts/make_tokens.py > tests/clip_tokens.json
"""
import json

import open_clip

SENTENCES = [
    "a photo of a cat", "A Photo Of A CAT", "", " ", "   leading and trailing   ", "tabs\tand\nlines\r\nbroken",
    "it's we'll I'D they've isn't", "hello, world! (really?) #1 @home 50% off...", "semi;colon:dash-dash_under",
    "café naïve Zoë Ångström", "cafe\u0301 decomposed", "ﬁsh and ﬂour", "“curly” ‘quotes’ and ’apostrophe’s",
    "&amp; &lt;b&gt; &amp;lt; &eacute; &#8364; &nbsp;x &notanentity;", "schÃ¶n â€œquotedâ€\x9d", "â€™ s", "l’humanitÃ©",
    "日本語の写真", "中文 照片 with English", "한국어 사진", "Фотография кошки", "φωτογραφία ΣΊΣΥΦΟΣ", "صورة قطة", "תמונה של חתול",
    "हिन्दी में एक तस्वीर", "ภาพถ่ายของแมว", "😀 emoji 👩‍👩‍👧‍👦 family 🇩🇪 flag ❤️", "a🐱b", "12345 6.789 1e-5 ½ ² ³ Ⅷ ①",
    "ＦＵＬＬ width ｔｅｘｔ", "İstanbul ı ß ẞ", "a" * 300, "word " * 100, "supercalifragilisticexpialidocious",
    "<start_of_text> inside <end_of_text>", "<|startoftext|> other <|endoftext|>", "http://example.com/a?b=c&d=e", "C++ & C#",
    "\u200bzero\u200dwidth\ufeff", "\x00control\x1bchars\x7f", "soft\u00adhyphen", "line\u2028separator\u2029para",
    "¡Hola! ¿Qué tal?", "n°5 §3 ©2024 ™ €5 £3", "don''t \"\"double\"\" '''triple'''", "...", "?", "'", "'s", "_", "a_b_c",
    "mixed123numbers456here", "ÀÉÎÕÜ", "ñandú", "œuvre æther", "𝒻𝒶𝓃𝒸𝓎 𝕥𝕖𝕩𝕥", "e̶d̶i̶t̶", "Z̤͔a̰l̷g̵o̸", "\u00a0nbsp\u00a0", "tro\u0308del",
    "&amp;amp;amp; deep", "<br/>html <i>tags</i>", "🦄" * 40, "a photo of a dog.", "The quick brown fox's jump",
    "l'été", "O’Neill", "RenÃ©e", "1/2 cup", "\x1b[31mred\x1b[0m", "ⓒircled", "ﷺ", "a\u0300\u0301\u0302", "ﬀ ﬃ ﬄ ﬅ ﬆ", "Ĳssel ĳ ŀ ǆ",
    "Ṫ\u0301\u0345 x\u0337 marks", "a\u0345b \u0345 \u0301\u0345\u0301", "it'ſ 'ſ 'LL",
]

if __name__ == "__main__":
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    rows = [{"text": text, "ids": [i for i in tokenizer([text])[0].tolist()]} for text in SENTENCES]
    for row in rows:
        while len(row["ids"]) > 1 and row["ids"][-1] == 0 and row["ids"][-2] in (0, 49407):
            row["ids"].pop()
    print("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]")
