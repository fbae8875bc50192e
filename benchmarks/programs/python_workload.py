"""A Python workload with the protocol of loop.h: dictionaries, strings, JSON, sorting, classes, generators."""

import hashlib
import json
import sys
import time


class Node:
    def __init__(self, key, left, right):
        self.key, self.left, self.right = key, left, right

    def __iter__(self):
        if self.left:
            yield from self.left
        yield self.key
        if self.right:
            yield from self.right


def tree(low, high):
    if low >= high:
        return None
    middle = (low + high) // 2
    return Node(middle, tree(low, middle), tree(middle + 1, high))


def work(repetitions):
    total = 0
    for number in range(repetitions):
        words = [hashlib.sha256(b"%d" % (number * 100 + i)).hexdigest() for i in range(100)]
        counts = {}
        for word in words:
            for letter in word:
                counts[letter] = counts.get(letter, 0) + 1
        text = json.dumps({"words": sorted(words), "counts": counts})
        total += len(json.loads(text)["words"]) + sum(tree(0, 500)) + len(text.replace("a", "bb"))
    return total


for line in sys.stdin:
    begin = time.perf_counter_ns()
    result = work(int(line))
    print(time.perf_counter_ns() - begin, result, flush=True)
