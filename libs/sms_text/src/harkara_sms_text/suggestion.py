"""Cheaper spelling: replacing the typographic characters that silently turn a GSM text into UCS-2.

Word processors and phones write curly quotes, long dashes, non-breaking spaces and the like, each of which halves what
a part holds. The replacement is a suggestion to the sender, who may need the registered template to allow it.
"""

import unicodedata
from typing import Final

from harkara_sms_text.alphabet import NOT_GSM

_REPLACEMENTS: Final = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc\u0060\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
        **dict.fromkeys("\t\u00a0\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B))), " "),
        **dict.fromkeys("\u200b\u2060\ufeff\u00ad", ""),  # invisible; joiners stay, Indic scripts need them
        **dict.fromkeys("\u2028\u2029\u0085", "\n"),
        "\u2026": "...",
        "\u2022": "*",
        "\u00b7": ".",
        "\u00d7": "x",
        "\u20b9": "Rs",
        "\u2122": "TM",
        "\u00ae": "(R)",
        "\u00a9": "(C)",
    }
)


def suggest_gsm(text: str) -> str:
    """`text` in GSM characters if replacing typography alone achieves that, else `text` unchanged."""
    if NOT_GSM.search(text) is None:
        return text
    suggestion = unicodedata.normalize("NFC", text).translate(_REPLACEMENTS)
    return text if NOT_GSM.search(suggestion) else suggestion
