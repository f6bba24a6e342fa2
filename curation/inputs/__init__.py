"""Readers: a collection of videos and captions, in whatever form a user has it, as planned samples. No video is opened.

`open_input` finds out which form it is; `panda70m`, `folder`, `shards` and `finished` read one form each; `rows` and
`tables` see to it that one bad row is one failed clip.
"""
