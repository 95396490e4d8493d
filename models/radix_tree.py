"""A radix tree over token sequences: which prefix is held by which sequences of the KV cache.

Place in the data's way: `PrefixCache` keeps one and carries each change over to llama.cpp's memory. A path
from the root spells out tokens; each node's cells exist once and are shared by all sequences that pass it.

Example:
    >>> tree = RadixTree()
    >>> tree.start(0); tree.append(0, [1, 2, 3])
    >>> tree.match([1, 2, 9])
    Match(num_tokens=2, seq_id=0)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Node:
    """A run of tokens that every sequence below it shares.

    Attributes:
        start: Position of its first token.
        tokens: Its tokens; empty for the root only.
        parent: The node before it; None for the root.
        children: The nodes behind it, by their first token.
        seqs: Sequences that hold its cells.
        used_at: Tick of its last use.
        num_hits: How often a new prompt found it.
    """

    start: int
    tokens: list[int]
    parent: Node | None
    children: dict[int, Node] = field(default_factory=dict)
    seqs: set[int] = field(default_factory=set)
    used_at: int = 0
    num_hits: int = 0

    @property
    def end(self) -> int:
        """One past the position of its last token."""
        return self.start + len(self.tokens)


@dataclass(frozen=True, slots=True)
class Match:
    """A prefix that is held.

    Attributes:
        num_tokens: Its length.
        seq_id: A sequence that holds all of it; -1 where the length is 0.
    """

    num_tokens: int
    seq_id: int


class RadixTree:
    """Nodes, and where each sequence ends; knows nothing of llama.cpp.

    Invariant: a node's sequences are those of its children and those that end at it; every sequence ends at
    the end of a node.
    """

    def __init__(self) -> None:
        self.root = Node(0, [], None)
        self.ends: dict[int, Node] = {}
        self._ticks = itertools.count(1)

    # -- looking

    def match(self, tokens: Sequence[int]) -> Match:
        """Return the longest held prefix of `tokens`."""
        node, depth = self.root, 0
        while (child := node.children.get(tokens[depth]) if depth < len(tokens) else None) is not None:
            common = shared_prefix(child.tokens, tokens[depth : depth + len(child.tokens)])
            node, depth = child, depth + common
            if common < len(child.tokens):
                break
        return Match(depth, next(iter(node.seqs), -1) if depth else -1)

    def nodes(self) -> Iterator[Node]:
        """Yield all nodes but the root."""
        stack = list(self.root.children.values())
        while stack:
            node = stack.pop()
            stack += node.children.values()
            yield node

    def path(self, seq_id: int) -> list[Node]:
        """Return the nodes of a sequence, last first."""
        found = []
        node: Node | None = self.ends[seq_id]
        while node is not None and node is not self.root:
            found.append(node)
            node = node.parent
        return found

    def tokens(self, seq_id: int) -> list[int]:
        """Return the tokens of a sequence."""
        return [token for node in reversed(self.path(seq_id)) for token in node.tokens]

    # -- changing

    def start(self, seq_id: int) -> None:
        """Begin an empty sequence."""
        self.ends[seq_id] = self.root

    def follow(self, seq_id: int, tokens: Sequence[int]) -> int:
        """Let a sequence share what is held already behind its end.

        Returns:
            How many of `tokens`, from the first, another sequence holds there.
        """
        node, depth = self.ends[seq_id], 0
        while depth < len(tokens) and (child := node.children.get(tokens[depth])) is not None:
            common = shared_prefix(child.tokens, tokens[depth : depth + len(child.tokens)])
            if common < len(child.tokens):
                child = self._split(child, common)
            child.seqs.add(seq_id)
            node, depth = child, depth + common
        self.ends[seq_id] = node
        return depth

    def append(self, seq_id: int, tokens: Sequence[int]) -> None:
        """Add tokens that nobody else holds behind a sequence's end; `follow` comes first."""
        node = self.ends[seq_id]
        if node is not self.root and not node.children and node.seqs == {seq_id}:
            node.tokens += tokens
            return
        child = Node(node.end, list(tokens), node, seqs={seq_id}, used_at=next(self._ticks))
        node.children[tokens[0]] = child
        self.ends[seq_id] = child

    def cut(self, seq_id: int, num_tokens: int) -> None:
        """Take the last tokens from a sequence.

        Raises:
            ValueError: Its last node is shared, or shorter.
        """
        node = self.ends[seq_id]
        if node.seqs != {seq_id} or node.children or num_tokens > len(node.tokens):
            raise ValueError(f"The last {num_tokens} tokens of sequence {seq_id} are not its own.")
        del node.tokens[len(node.tokens) - num_tokens :]
        if not node.tokens:
            self._unlink(node)
            assert node.parent is not None
            self.ends[seq_id] = node.parent

    def drop(self, seq_id: int) -> None:
        """Forget a sequence; nodes that only it held go with it."""
        for node in self.path(seq_id):
            node.seqs.discard(seq_id)
            if not node.seqs:
                self._unlink(node)
        del self.ends[seq_id]

    def merge(self, seq_id: int) -> None:
        """Join a sequence's last node with the one before where nothing branches off between them."""
        node = self.ends[seq_id]
        parent = node.parent
        if parent is None or parent is self.root or len(parent.children) > 1 or parent.seqs != node.seqs:
            return
        if any(self.ends[other] is parent for other in parent.seqs):
            return
        parent.tokens += node.tokens
        parent.children = node.children
        for child in parent.children.values():
            child.parent = parent
        for other in node.seqs:
            if self.ends[other] is node:
                self.ends[other] = parent

    def touch(self, seq_id: int, *, is_hit: bool = False) -> None:
        """Note that a sequence's tokens were used just now."""
        tick = next(self._ticks)
        for node in self.path(seq_id):
            node.used_at = tick
            node.num_hits += is_hit

    def is_redundant(self, seq_id: int) -> bool:
        """Return whether other sequences hold all that this one holds."""
        node = self.ends[seq_id]
        return node is self.root or len(node.seqs) > 1

    def _split(self, node: Node, length: int) -> Node:
        """Cut a node after `length` tokens and return the first part."""
        assert node.parent is not None
        head = Node(
            node.start, node.tokens[:length], node.parent, {node.tokens[length]: node}, set(node.seqs)
        )
        head.used_at, head.num_hits = node.used_at, node.num_hits
        node.parent.children[head.tokens[0]] = head
        node.tokens = node.tokens[length:]
        node.start += length
        node.parent = head
        return head

    def _unlink(self, node: Node) -> None:
        assert node.parent is not None
        first = next((key for key, child in node.parent.children.items() if child is node), None)
        if first is not None:
            del node.parent.children[first]


def shared_prefix(left: Sequence[object], right: Sequence[object]) -> int:
    """Return how many leading items two sequences share."""
    num = min(len(left), len(right))
    begin, size = 0, 16  # in growing pieces, for most pairs differ within the first few tokens
    while begin < num:
        end = min(begin + size, num)
        a, b = list(left[begin:end]), list(right[begin:end])
        if a != b:
            return begin + next(i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)
        begin, size = end, size * 4
    return num
