"""The chapters of the tour, in the lecture's order, one file each.

A chapter is a class: `compute` runs what it shows, `render` draws that, and `to_dict` returns it as plain values.
"""
