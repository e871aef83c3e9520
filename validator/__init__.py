"""The program and box that decides at the gate. Imports `hardware`, is imported by `backend_sync`, opens no socket."""
