"""GSM 03.38 and UCS-2 encoding, parts and concatenation of SMS text."""

from harkara_sms_text.inbound import (
    Concatenation,
    MalformedHeaderError,
    UnreadableCodingError,
    UserData,
    decode,
    read_user_data,
)
from harkara_sms_text.message import (
    ESM_CLASS_UDHI,
    MAX_PARTS,
    Encoding,
    LoneSurrogateError,
    Measure,
    Part,
    TooManyPartsError,
    encode,
    is_gsm,
    measure,
    split,
)
from harkara_sms_text.suggestion import suggest_gsm

__all__ = [
    "ESM_CLASS_UDHI",
    "MAX_PARTS",
    "Concatenation",
    "Encoding",
    "LoneSurrogateError",
    "MalformedHeaderError",
    "Measure",
    "Part",
    "TooManyPartsError",
    "UnreadableCodingError",
    "UserData",
    "decode",
    "encode",
    "is_gsm",
    "measure",
    "read_user_data",
    "split",
    "suggest_gsm",
]
