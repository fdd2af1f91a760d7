"""Attributes that are watched: everybody who watches sees them, and afterwards they are what they were."""

from __future__ import annotations

import threading

import pytest

from fastbp.watching import watched


class Owner:
    def method(self):
        return ["method"]


class Heir(Owner):
    pass


def adding(word):
    return lambda plain: lambda self: [word, *plain(self)]


FIRST, SECOND = adding("first"), adding("second")


def test_watchers_stand_around_each_other_in_any_order_of_leaving():
    plain = Owner.method
    first, second = watched([(Owner, "method", FIRST)]), watched([(Owner, "method", SECOND)])
    first.__enter__()
    second.__enter__()
    assert Owner().method() == ["second", "first", "method"]
    first.__exit__(None, None, None)
    assert Owner().method() == ["second", "method"]
    second.__exit__(None, None, None)
    assert Owner.method is plain


def test_the_same_watcher_twice_stands_there_once():
    with watched([(Owner, "method", FIRST)]):
        with watched([(Owner, "method", FIRST)]):
            assert Owner().method() == ["first", "method"]
        assert Owner().method() == ["first", "method"]
    assert Owner().method() == ["method"]


def test_what_was_inherited_is_inherited_again():
    with watched([(Heir, "method", lambda _: lambda self: ["heir"])]):
        assert Heir().method() == ["heir"] and Owner().method() == ["method"]
    assert "method" not in vars(Heir)


def test_an_error_in_the_block_leaves_nothing():
    plain = Owner.method
    with pytest.raises(LookupError), watched([(Owner, "method", FIRST)]):
        raise LookupError
    assert Owner.method is plain


def test_many_threads_leave_nothing():
    plain, start = Owner.method, threading.Barrier(8)

    def watch(wrap):
        start.wait()
        for _ in range(200):
            with watched([(Owner, "method", wrap)]):
                assert "method" in Owner().method()

    threads = [threading.Thread(target=watch, args=(wrap,)) for wrap in (FIRST, SECOND) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Owner.method is plain
