"""`python -m rawcnn` is the command."""

from rawcnn.cli import main

main()
