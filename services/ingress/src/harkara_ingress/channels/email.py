"""A mail: from whom, about what, in text or HTML or from a template, with files."""

import base64
import binascii
import re
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from harkara_ingress.channels.shape import Link, OneLine, Shape, Variables, exactly_one, without_repeats

MAX_ATTACHMENTS = 10
MAX_ATTACHED_BYTES = 25 * 2**20
"""Of all files of a mail together: what nearly every mailbox still takes."""

# RFC 5321 §4.1.2 without quoted local parts and address literals, which no person has.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"(?=.{{3,254}}$)(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+{_LABEL}", re.ASCII)
_MEDIA_TYPE = r"^[a-z0-9][a-z0-9.+-]{0,63}/[a-z0-9][a-z0-9.+-]{0,127}$"


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise PydanticCustomError("address", "This is no mail address, such as asha@example.com")
    return text


def _file_name(text: str) -> str:
    if "/" in text or "\\" in text or text in {".", ".."}:
        raise PydanticCustomError("file_name", "A file's name has no path")
    return text


Address = Annotated[str, AfterValidator(_address)]


class Attachment(Shape):
    """A file by its link, which is fetched when the mail leaves, or in the request itself, in base 64."""

    filename: Annotated[str, Field(min_length=1, max_length=200), OneLine, AfterValidator(_file_name)]
    content_type: Annotated[str, Field(pattern=_MEDIA_TYPE)]
    url: Link | None = None
    content_base64: str | None = None

    @model_validator(mode="after")
    def _from_one_place(self) -> "Attachment":
        exactly_one(self, ("url", "content_base64"))
        if self.content_base64 is not None:
            try:
                base64.b64decode(self.content_base64, validate=True)
            except (binascii.Error, ValueError):
                raise PydanticCustomError("base64", "content_base64 is not base 64") from None
        return self

    def inline_bytes(self) -> int:
        """Return about how large the file is; 0 for one that has to be fetched."""
        return len(self.content_base64 or "") * 3 // 4


class EmailContent(Shape):
    """`text`, `html` or both; or `template_id` with `variables`. `from` is a verified address of the account's."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True, populate_by_name=True)

    sender: Annotated[Address, Field(alias="from", examples=["billing@example.com"])]
    from_name: Annotated[str, Field(max_length=100), OneLine] | None = None
    reply_to: Address | None = None
    subject: Annotated[str, Field(min_length=1, max_length=998), OneLine] | None = None
    template_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    variables: Variables = Field(default_factory=dict, max_length=100)
    text: Annotated[str, Field(min_length=1, max_length=1_000_000)] | None = None
    html: Annotated[str, Field(min_length=1, max_length=1_000_000)] | None = None
    attachments: list[Attachment] = Field(default_factory=list, max_length=MAX_ATTACHMENTS)
    track_opens: bool = False
    track_clicks: bool = False

    @model_validator(mode="after")
    def _says_something_once(self) -> "EmailContent":
        has_own_words = self.text is not None or self.html is not None
        if has_own_words == (self.template_id is not None):
            raise ValueError("give text or html, or a template_id, and not both")
        if self.subject is None and self.template_id is None:
            raise ValueError("a mail without a template needs a subject")
        without_repeats([attachment.filename for attachment in self.attachments], "The names of files")
        if sum(attachment.inline_bytes() for attachment in self.attachments) > MAX_ATTACHED_BYTES:
            raise ValueError(f"the files of a mail have at most {MAX_ATTACHED_BYTES // 2**20} MiB together")
        return self
