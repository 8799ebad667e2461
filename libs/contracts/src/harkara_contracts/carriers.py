"""Carriers are configuration: one YAML file with a list `carriers`.

Routing reads who is there and with what weight, the senders how to reach it. The simulators are just its default entries.
"""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from harkara_contracts.errors import ConfigurationError
from harkara_contracts.subjects import Channel

TagNumber = Annotated[int, Field(ge=0, le=0xFFFF)]


class _Strict(BaseModel):
    # A misspelt key in a carrier's settings must be told, not ignored; what is told must not quote a password.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class DltTags(_Strict):
    """Tags of the DLT TLVs; the range 0x1400-0x3FFF is each vendor's own, so they differ between carriers."""

    entity_id: TagNumber = 0x1400
    template_id: TagNumber = 0x1401
    chain: TagNumber = 0x1402


class TlsSettings(_Strict):
    ca_file: Path | None = None
    server_name: str | None = None


class SmppCarrier(_Strict):
    """A carrier reached by SMPP 3.4. `weight` is its share among healthy carriers of the channel, 0 takes it out."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    type: Literal["smpp"] = "smpp"
    channel: Literal[Channel.SMS] = Channel.SMS
    weight: Annotated[int, Field(ge=0, le=1000)] = 50
    sandbox: bool = False
    host: str
    port: Annotated[int, Field(ge=1, le=65_535)]
    system_id: Annotated[str, Field(max_length=15)]
    password: SecretStr = SecretStr("")
    password_file: Path | None = None
    system_type: Annotated[str, Field(max_length=12)] = ""
    binds: Annotated[int, Field(ge=1, le=16)] = 1
    window: Annotated[int, Field(ge=1, le=2000)] = 100
    tps: Annotated[float, Field(gt=0)] | None = None
    response_timeout_s: Annotated[float, Field(gt=0, le=300)] = 20.0
    enquire_link_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    id_form: Literal["none", "hex_to_dec", "dec_to_hex"] = "none"
    tls: TlsSettings | None = None
    dlt_tags: DltTags = DltTags()

    @model_validator(mode="after")
    def _one_password(self) -> "SmppCarrier":
        if self.password_file is not None and self.password.get_secret_value():
            raise ValueError("give password or password_file, not both")
        return self

    def read_password(self) -> str:
        """Return the bind password, from the file where one is named.

        Raises:
            OSError: the file cannot be read.
        """
        if self.password_file is None:
            return self.password.get_secret_value()
        return self.password_file.read_text().strip()


class CarrierSettings(_Strict):
    carriers: list[SmppCarrier] = []

    @model_validator(mode="after")
    def _names_are_unique(self) -> "CarrierSettings":
        names = [carrier.name for carrier in self.carriers]
        doubles = sorted({name for name in names if names.count(name) > 1})
        if doubles:
            raise ValueError(f"carrier names must be unique, given twice: {', '.join(doubles)}")
        return self


def load_carriers(path: Path) -> CarrierSettings:
    """Read the carriers' file.

    Raises:
        ConfigurationError: the file is missing or wrong; the text says where and how to mend it.
    """
    try:
        return CarrierSettings.model_validate(yaml.safe_load(path.read_text()) or {})
    except OSError as error:
        raise ConfigurationError(f"the carriers file {path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        # Not the parser's own words: they quote the line, and a line may hold a password.
        raise ConfigurationError(f"the carriers file {path} is not valid YAML{_place_of(error)}") from None
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise ConfigurationError(f"the carriers file {path} is wrong at {places}") from error


def _place_of(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f": look at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
