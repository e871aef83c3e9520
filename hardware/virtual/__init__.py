"""Cards that exist only in software, on the production interfaces: nfcpy's UDP air and PC/SC through vpcd."""
