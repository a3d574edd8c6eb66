"""Prioritised experience replay (Schaul, Quan, Antonoglou, Silver, ICLR 2016), over columns, with
priorities in a sum tree; each knows which one followed it.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray


class Replay:
    """The last `size` experiences (a power of two), drawn in proportion to priority ** alpha.

    Adaptive: the correction for drawing unevenly, beta, grows from 0.4 to 1 as the surprises
        shrink.
    """

    def __init__(self, size: int = 1 << 15, alpha: float = 0.6) -> None:
        self._size = size
        self._alpha = alpha
        self._next = 0
        self._filled = 0
        self._tree = np.zeros(2 * size)
        self.rows = np.zeros(
            size,
            [("key", "u8"), ("action", "i8"), ("reward", "f4"), ("next", "u8"), ("gamma", "f4")],
        )
        self._following = np.full(size, -1, np.int64)
        self._first_surprise = self._surprise = 0.0

    def __len__(self) -> int:
        return self._filled

    def save(self, path: Path) -> None:
        """All of it, for `load`."""
        figures = [self._alpha, self._first_surprise, self._surprise]
        counts = [self._next, self._filled]
        np.savez(
            path,
            rows=self.rows,
            following=self._following,
            tree=self._tree,
            figures=figures,
            counts=counts,
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """What was saved there; it goes on as the saved one would have. Raises OSError,
        ValueError.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                rows, following, tree, figures, counts = (
                    file[name] for name in ("rows", "following", "tree", "figures", "counts")
                )
        except (zipfile.BadZipFile, EOFError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: is no replay, or was cut short ({error}).") from error
        alpha, first_surprise, surprise = figures.tolist()
        replay = cls(len(rows), alpha)
        is_own = (rows.dtype, tree.shape) == (replay.rows.dtype, replay._tree.shape)
        is_own &= (following.dtype, following.shape) == (np.dtype(np.int64), rows.shape)
        if not is_own or not ((following >= -1) & (following < len(rows))).all():
            raise ValueError(f"{path}: is a replay of another version of Headway.")
        replay.rows, replay._following, replay._tree = rows, following, tree
        replay._next, replay._filled = counts.tolist()
        replay._first_surprise, replay._surprise = first_surprise, surprise
        return replay

    def put(self, rows: NDArray[np.void]) -> NDArray[np.int64]:
        """Take in experiences, with the highest priority so far: each is to be learnt from once at
        least. Returns their places, (n,).
        """
        at = (self._next + np.arange(len(rows))) % self._size
        self.rows[at] = rows
        self._following[at] = -1
        self._set(at, np.full(len(rows), max(self._tree[self._size :].max(), 1.0)))
        self._next = int((self._next + len(rows)) % self._size)
        self._filled = min(self._size, self._filled + len(rows))
        return at

    def link(self, earlier: NDArray[np.int64], later: NDArray[np.int64]) -> None:
        """Tell that the experiences at the places `later` (n,) followed those at `earlier` (n,); -1
        for none. One that has given way since is left out.
        """
        known = earlier >= 0
        earlier, later = earlier[known], later[known]
        still = self.rows["next"][earlier] == self.rows["key"][later]
        self._following[earlier[still]] = later[still]

    def chains(self, places: NDArray[np.int64], most: int) -> NDArray[np.int64]:
        """Places (k, n) of the experiences at `places` (n,) and of those that followed, in their
        order; -1 behind the last. k: of the longest, at most `most`.
        """
        chain = [places]
        while len(chain) < most:
            last = chain[-1]
            following = np.where(last >= 0, self._following[last], -1)
            if not (following >= 0).any():
                break
            chain.append(following)
        return np.stack(chain)

    def draw(
        self, n: int, random: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Places (n,) of experiences, and their weights (n,), at most 1."""
        total = self._tree[1]
        wanted = (np.arange(n) + random.random(n)) * total / n
        node = np.ones(n, np.int64)
        while node[0] < self._size:
            left = self._tree[2 * node]
            right = (wanted > left) & (self._tree[2 * node + 1] > 0)
            wanted = np.where(right, wanted - left, wanted)
            node = 2 * node + right
        beta = 1.0 - 0.6 * min(1.0, self._surprise / max(self._first_surprise, 1e-9))
        weight = (self._filled * self._tree[node] / total) ** -beta
        return node - self._size, weight / weight.max()

    def learnt(self, places: NDArray[np.int64], surprise: NDArray[np.float64]) -> None:
        """Tell how far off (n,) the expectation was at `places` (n,)."""
        mean = float(np.abs(surprise).mean())
        self._surprise = mean if not self._first_surprise else 0.99 * self._surprise + 0.01 * mean
        self._first_surprise = max(self._first_surprise, self._surprise)
        self._set(places, (np.abs(surprise) + 1e-3) ** self._alpha)

    def _set(self, places: NDArray[np.int64], priority: NDArray[np.float64]) -> None:
        node = places + self._size
        self._tree[node] = priority
        node = np.unique(node // 2)
        while node[0] >= 1:
            self._tree[node] = self._tree[2 * node] + self._tree[2 * node + 1]
            node = np.unique(node // 2)
