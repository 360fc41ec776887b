"""kiptail killed at any moment, with its API server killed too, and with its disk full: nothing lost, nothing double.

`harness` crashes it while packets are dropped, `victim` is a kiptail that dies at a chosen point, and
`python -m tests.crash` (`make crash`) runs at full length what the tests run in short.
"""
