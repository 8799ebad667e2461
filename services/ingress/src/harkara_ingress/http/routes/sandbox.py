"""What test mode gives to every account, as data: numbers with a known fate, and templates."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from harkara_registry import SANDBOX_NUMBERS, SANDBOX_PREFIX, SANDBOX_SENDER, SANDBOX_TEMPLATES

_EXAMPLE: dict[str, Any] = {
    "numbers": [
        {
            "number": "919999900002",
            "name": "failed_absent",
            "state": "failed",
            "error_code": "ERR_HANDSET_UNREACHABLE",
            "description": "handset unreachable",
        }
    ],
    "templates": [
        {
            "template_id": "SANDBOX_OTP",
            "category": "otp",
            "body": "{#numeric:otp#} is your one-time password. Do not share it with anyone. - Harkara Sandbox",
            "variables": [{"name": "otp", "type": "numeric"}],
        }
    ],
    "template_prefix": SANDBOX_PREFIX,
    "sender": SANDBOX_SENDER,
}


class KnownNumber(BaseModel):
    """`state` is the final one in the status API, `error_code` what status and webhook tell; null where it is delivered."""

    number: str
    name: str
    state: str
    error_code: str | None
    description: str


class SandboxVariable(BaseModel):
    name: str
    type: str


class SandboxTemplate(BaseModel):
    template_id: str
    category: str
    body: str
    variables: list[SandboxVariable]


class Sandbox(BaseModel):
    """A template id with the prefix that is not listed takes any text; `sender` is an example, any six letters do."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    numbers: list[KnownNumber]
    templates: list[SandboxTemplate]
    template_prefix: str
    sender: str


def _sandbox() -> Sandbox:
    numbers = [
        KnownNumber(
            number=one.number,
            name=one.name,
            state=one.state,
            error_code=one.error_code.value if one.error_code else None,
            description=one.description,
        )
        for one in SANDBOX_NUMBERS
    ]
    templates = [
        SandboxTemplate(
            template_id=known.fact.template_id,
            category=known.fact.category.value,
            body=known.fact.body,
            variables=[SandboxVariable(name=each.name, type=each.type) for each in known.fact.variables],
        )
        for known in SANDBOX_TEMPLATES.values()
    ]
    return Sandbox(numbers=numbers, templates=templates, template_prefix=SANDBOX_PREFIX, sender=SANDBOX_SENDER)


def sandbox_routes() -> APIRouter:
    router = APIRouter(tags=["sandbox"])
    told = _sandbox()

    @router.get("/v1/sandbox")
    async def sandbox() -> Sandbox:
        """List the numbers with a known fate and the templates of test mode; every key may ask."""
        return told

    return router
