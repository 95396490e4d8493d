"""What the pages need from the front door, as Protocols.

Place in the data's way: browser -> page -> `FrontDoor` -> everything else. The pages import nothing below
it but the core vocabulary.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from ..core.contracts import PartState
from ..core.types import Box, Event, Message, Question

if TYPE_CHECKING:
    from ..agents.acting.approval import Approval
    from ..agents.acting.checkpoints import UnfinishedRun
    from ..core.conversations import ConversationStore
    from ..core.settings import Settings
    from ..retrieval.library import Library
    from ..training_runs import TrainingRuns


class FrontDoor(Protocol):
    """The one object the pages talk to."""

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        ...

    @property
    def conversations(self) -> ConversationStore:
        """Conversations and feedback."""
        ...

    @property
    def library(self) -> Library:
        """The document library."""
        ...

    @property
    def training_runs(self) -> TrainingRuns:
        """Training: checks, runs, promotions."""
        ...

    @property
    def loading(self) -> Sequence[PartState]:
        """The parts that load in the background."""
        ...

    def warm_up(self) -> None:
        """Start loading what isn't loaded, in the background; again after a failure."""
        ...

    def events(
        self,
        question: str | Question,
        *,
        history: Sequence[Message] = (),
        collection: str = "default",
        strategy: str | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[Event]:
        """Answer a question step by step."""
        ...

    def resume(
        self, run_id: str, approval: Approval | None = None, *, cancel: threading.Event | None = None
    ) -> Iterator[Event]:
        """Go on with an unfinished run step by step."""
        ...

    def unfinished_runs(self, user: str | None = None) -> Sequence[UnfinishedRun]:
        """Return the runs that `resume` can go on with, the latest first."""
        ...

    def page_image(self, document_id: str, page: int, boxes: Sequence[Box]) -> bytes:
        """Return a PNG of the page with the boxes highlighted."""
        ...
