"""The part of the console that opens what places ask for."""

from __future__ import annotations

from textual import on

from busctl.tui.filters import EVERYTHING, Filter
from busctl.tui.messages import (
    Describe,
    OpenCalls,
    OpenDead,
    OpenGroup,
    OpenList,
    OpenPeek,
    OpenPublish,
    OpenQueue,
    OpenRpc,
    OpenTail,
    OpenTopology,
    TapTold,
)
from busctl.tui.modals.describe import DescribeModal
from busctl.tui.nouns import NOUNS
from busctl.tui.screens.listing import ListScreen
from busctl.tui.screens.place import Place
from busctl.tui.screens.queue import QueueScreen
from busctl.tui.screens.queues import QueuesScreen
from busctl.tui.switching import Switching
from busctl.views.formats import safe_text


class Opening(Switching):
    """Screens that are not always needed are loaded when they are first opened."""

    def go(self, *places: Place) -> None:
        """Go to a place by its own way: overview, then these."""
        raise NotImplementedError

    def list_place(self, wanted: OpenList) -> Place:
        """Make the screen of a list."""
        filtered = wanted.filter if isinstance(wanted.filter, Filter) else Filter(wanted.filter)
        if wanted.noun == "queues":
            return QueuesScreen(self.feed, filtered, of=wanted.of, only=wanted.only)
        if wanted.noun == "events":
            from busctl.tui.screens.events import EventsScreen

            return EventsScreen(self.feed, filtered, glob=wanted.of)
        if wanted.noun == "topology":
            return self.topology_place("", filtered)
        return ListScreen(self.feed, NOUNS[wanted.noun], filtered, of=wanted.of, only=wanted.only)

    @on(OpenList)
    def _open_list(self, message: OpenList) -> None:
        try:
            self.push_screen(self.list_place(message))
        except ValueError as error:  # a pattern of Erlang's that is none of ours
            self.notify(safe_text(str(error)), severity="warning", markup=False)

    def topology_place(self, name: str, filtered: Filter = EVERYTHING) -> Place:
        """Make the screen of the topology, around a place if one is named."""
        from busctl.tui.topologies import topology_noun

        noun = topology_noun(name, vhost=self.feed.session.vhost)
        return ListScreen(self.feed, noun, filtered, of=f"of {safe_text(name, 40)}" if name else "")

    @on(OpenTopology)
    def _open_topology(self, message: OpenTopology) -> None:
        self.push_screen(self.topology_place(message.name))

    @on(OpenQueue)
    def _open_queue(self, message: OpenQueue) -> None:
        self.push_screen(QueueScreen(self.feed, (message.vhost, message.name)))

    @on(OpenTail)
    def _open_tail(self, message: OpenTail) -> None:
        from busctl.tui.screens.tail import TailScreen

        if isinstance(self.screen, TailScreen):  # beneath another it would go on, and cost, unseen
            self.pop_screen()
        self.push_screen(TailScreen(self.feed, message.queue))

    @on(OpenCalls)
    def _open_calls(self, message: OpenCalls) -> None:
        from busctl.tui.screens.calls import CallsScreen

        self.push_screen(CallsScreen(self.feed, message.queue))

    @on(OpenPeek)
    def _open_peek(self, message: OpenPeek) -> None:
        from busctl.tui.screens.peek import PeekScreen

        self.push_screen(PeekScreen(self.feed, message.queue))

    def dead_place(self, message: OpenDead) -> Place:
        """Make the screen of a queue's dead letters."""
        from busctl.tui.screens.dead import DeadScreen

        return DeadScreen(self.feed, message.queue)

    @on(OpenDead)
    def _open_dead(self, message: OpenDead) -> None:
        self.push_screen(self.dead_place(message))

    @on(OpenGroup)
    def _open_group(self, message: OpenGroup) -> None:
        from busctl.tui.screens.dead_group import GroupScreen

        self.push_screen(GroupScreen(self.feed, message.queue, message.group, message.messages, message.grounds))

    @on(OpenPublish)
    def _open_publish(self, message: OpenPublish) -> None:
        from busctl.tui.screens.publish import PublishScreen

        self.push_screen(PublishScreen(self.feed, message.queue, message.like))

    @on(Describe)
    def _describe(self, message: Describe) -> None:
        self.push_screen(DescribeModal(message.title, message.lines))

    @on(TapTold)
    def _tell(self, message: TapTold) -> None:
        self.notify(safe_text(message.text), title="Tail", severity="warning", timeout=15, markup=False)

    @on(OpenRpc)
    def _open_rpc(self, message: OpenRpc) -> None:
        self.open_rpc(message.line)

    def open_rpc(self, line: str) -> None:
        """Go to the workbench for calls, with a beginning."""
        from busctl.tui.screens.rpc import RpcScreen

        self.go(RpcScreen(self.feed, line))
