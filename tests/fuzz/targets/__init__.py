"""One file per parser: `check(data)` hands it bytes from a stranger and raises when it breaks its promise.

`SEEDS` are inputs to begin with, `WORDS` pieces worth inserting. Errors that the parser documents are caught in `check`;
everything else that leaves it is a finding. Nothing here needs the fuzzer: ../test_corpus.py replays kept inputs.
"""
