"""A report in one folder that works offline: index.html, its pictures, and the numbers as JSON.

`page` says what a page is made of, `plots` draws, `folder` writes; `sections/` holds one function a section. To add a
section, write a function that takes results and an `Album` and returns a `Section`, and put it into a chapter in
`rawcnn.report.tour`.
"""
