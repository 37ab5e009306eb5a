"""python -m infra.athena FOLDER: writes the table's definition, which follows the records, to the folder."""

import sys
from pathlib import Path

from infra.athena.table import ddl

if __name__ == "__main__":
    Path(sys.argv[1], "table.sql").write_text(ddl())
