"""The folder of a pack: one checkpoint of all lanes; and each lane's run as `finetune` keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from landscape.errors import UserError
from landscape.training.checkpoint import read_checkpoint, write_checkpoint
from landscape.training.folder import RunFolder, identity_of
from landscape.training.packed.alone import alone
from landscape.training.packed.course import Course
from landscape.training.packed.pack import Pack
from landscape.training.processes import Processes
from landscape.training.run import Run


class PackFolder:
    """Hold the files of a pack.

        pack.safetensors    the state of all lanes, while some are under way
        00, 01, ...         the folder of each lane's run, unless folders name others

    Args:
        folder: of the pack.
        folders: of the lanes' runs; None for folders in it.
        pack: at its beginning.
        tokenizer: of the model.
        overwrite: start anew.

    Raises:
        UserError: a folder holds another run.
    """

    def __init__(
        self, folder: Path, folders: Sequence[str | Path] | None, pack: Pack,
        tokenizer: PreTrainedTokenizerBase, *, overwrite: bool,
    ) -> None:  # fmt: skip
        count = len(pack.courses)
        places = folders or [folder / f"{i:02}" for i in range(count)]
        if len(places) != count or len({Path(p).expanduser() for p in places}) != count:
            raise UserError(
                f"expected a folder for each of the {count} lanes, got {len(places)}; give one "
                "each, or leave folders out"
            )
        self._checkpoint = folder / "pack.safetensors"
        if overwrite:
            self._checkpoint.unlink(missing_ok=True)
        self._folders = []
        for place, course in zip(places, pack.courses, strict=True):
            lane = course.lane
            with alone(pack.model, course, course.start):
                identity = identity_of(
                    pack.model, tokenizer, lane.task, place, test=lane.settings.test,
                    schedule=None, overwrite=overwrite,
                )  # fmt: skip
            self._folders.append(
                RunFolder(
                    place,
                    course.config,
                    identity,
                    overwrite=overwrite,
                    processes=Processes(),
                    device=next(pack.model.parameters()).device,
                )
            )
            course.config = self._folders[-1].config
        self._config = {"lanes": [folder.config for folder in self._folders]}

    @property
    def finished(self) -> bool:
        """Tell whether every lane has its result."""
        return all(folder.finished for folder in self._folders)

    def runs(self) -> list[Run]:
        """Read the runs of a finished pack."""
        found = []
        for folder in self._folders:
            run, _ = folder.result()
            found.append(run)
        return found

    def resume(self, pack: Pack) -> None:
        """Go to the last checkpoint, where there is one.

        Raises:
            UserError: it is damaged, or of other lanes.
        """
        if self._checkpoint.exists():
            pack.load_state_dict(read_checkpoint(self._checkpoint, self._config))

    def save(self, pack: Pack) -> None:
        """Write a checkpoint, whole or not at all."""
        write_checkpoint(self._checkpoint, pack.state_dict(), self._config)

    def finish(self, lane: int, course: Course) -> None:
        """Write the result of a lane, unless it is there from a pack that was killed since."""
        folder = self._folders[lane]
        if not folder.finished:
            assert course.run is not None
            folder.finish(course.run, course.best.point)

    def close(self) -> None:
        """Remove the checkpoint: every lane has its result."""
        self._checkpoint.unlink(missing_ok=True)
