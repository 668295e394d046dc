"""`dbsn models`: which models there are."""

import json
from dataclasses import asdict, dataclass
from typing import ClassVar

from dbsn.cli.help import Layout
from dbsn.cli.options import Json
from dbsn.store import builtin


@dataclass(frozen=True, kw_only=True)
class Models:
    """List the built-in models: purpose, training data, license and measured quality."""

    layout: ClassVar[Layout] = Layout(examples=("dbsn models", "dbsn models --json"), usual=("--json",))
    json: Json = False

    def run(self) -> int:
        """List; always 0."""
        every = {name: builtin.card(name) for name in builtin.names()}
        sizes = {name: builtin.path_of(name).stat().st_size for name in every}
        if self.json:
            files = {name: {"bytes": sizes[name], "sha256": builtin.sha256(name)} for name in every}
            print(json.dumps({name: asdict(card) | files[name] for name, card in every.items()}))
            return 0
        for name, card in every.items():
            print(f"{name}: {card.purpose}")
            facts = {"noise": card.noise, "trained on": card.data, "terms": card.terms, "made by": card.made_by}
            facts |= {"file": f"{sizes[name] / 1e6:.1f} MB, sha256 {builtin.sha256(name)}"}
            for what, said in (facts | card.measured).items():
                print(f"  {what:<12} {said}")
        return 0
