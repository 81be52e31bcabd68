"""Reports: a folder that works offline, with index.html, its pictures, and all results as JSON.

`page` defines the content of a page, `html` renders templates, `album` draws pictures, and `folder` writes the folder.
`sections/` has one function for each section. To add a section, write a function that takes results and an `Album` and
returns a `Section`, and add it to a chapter in `rawcnn.report.chapters`.
"""
