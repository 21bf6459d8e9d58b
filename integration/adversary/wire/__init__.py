"""HTTP byte by byte and frame by frame, so that what no library would send can be sent."""
