"""`dbsn models`: which models there are."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from dbsn.store import builtin

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, kw_only=True)
class Models:
    """List the models that come with dbsn: what for, trained on what, how good."""

    json: bool = False
    """Print one JSON object."""

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
