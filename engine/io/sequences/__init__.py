"""Moving splats as one file per frame, in a folder or in a zip file."""
