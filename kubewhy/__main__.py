"""`python -m kubewhy` is `kubewhy`."""

from kubewhy.cli.main import main

main()
