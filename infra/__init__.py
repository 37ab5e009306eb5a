"""What kubewhy is installed, scaled and tested with."""
