"""``musamma predict --engine ray``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from musamma.cli.output import Format, report
from musamma.data.audit import ImportAudit
from musamma.data.errors import InputError

if TYPE_CHECKING:
    from musamma.inference.batch import Loaded
    from musamma.inference.sources import Inputs


def predict_on_cluster(
    given: Inputs,
    model: str,
    target: str,
    format: Format,
    packing: str | None,
    *,
    tagging: Mapping[str, Any],
    address: str | None,
    workers: int | None,
    device: str | None,
    size: int | None,
    skip: bool,
    resume: bool,
    overwrite: bool,
) -> None:
    """Tag on Ray, into a folder of parts, and say what became of all that was read.

    Args:
        given: what to tag.
        model: a model that every worker finds under this name.
        target: the folder.
        format: the parts' format.
        packing: how they are packed.
        tagging: further arguments of the tagger.
        address: of the cluster; ``None`` starts one here.
        workers: processes that tag; by default one a core.
        device: ``cpu``, the default, or ``cuda``.
        size: records of a part, at least.
        skip: put lines that are no documents aside.
        resume: go on with the parts that are missing.
        overwrite: begin anew.
    """
    from musamma.inference.cluster import Cluster, tag_on_cluster
    from musamma.inference.folder import Folder
    from musamma.inference.progress import Meter
    from musamma.inference.shards import RECORDS
    from musamma.inference.sources import total_bytes

    where = device or "cpu"  # a worker sees no graphics card that it did not ask for
    if where not in ("cpu", "cuda"):
        raise InputError(f"--device {where} with --engine ray", expected="cpu, or cuda for a card a worker")

    def load() -> Loaded:  # Ray sends it to the workers: nothing of it may be bound to this process
        from musamma.inference.batch import Loaded
        from musamma.inference.tagger import Tagger

        tagger = Tagger(model, device=where, **tagging)
        return Loaded(tagger=tagger, settings=tagger.settings())

    audit = ImportAudit(source=target, limit=1)
    began = time.monotonic()
    with Meter(total_bytes(given) if sys.stderr.isatty() else None) as meter, _kept(target):
        done, before = tag_on_cluster(
            given,
            load,
            Folder(Path(target), format.value, packing),
            cluster=Cluster(address=address, workers=workers, gpus=int(where == "cuda")),
            audit=audit,
            meter=meter,
            size=size or RECORDS,
            skip=skip,
            resume=resume,
            overwrite=overwrite,
        )
    rejects = f"{target}/*.rejects.jsonl"
    report(done, before, seconds=time.monotonic() - began, rejects=rejects, audit=audit, format=format)


@contextmanager
def _kept(target: str) -> Iterator[None]:
    """Where a run is interrupted, say what of it is kept."""
    try:
        yield
    except KeyboardInterrupt:
        if (Path(target) / "_run.json").exists():
            typer.echo(f"whole parts are kept in {target}; --resume goes on with the others", err=True)
        raise
