"""What a case is tried on: the router as a process, backends that do as they are told, manifests, certificates."""
