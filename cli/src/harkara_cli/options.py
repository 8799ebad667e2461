"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_HOME = Path(".harkara")
HomeOption = Annotated[Path, typer.Option("--home", help="The folder with the stack's data, secrets and logs.")]
