import os


def count(path):
    # FIXME: two visitors at once are counted as one
    with open(path) as file:
        return int(file.read()) + 1


def where():
    return os.environ.get("COUNTER", "counter.txt")
