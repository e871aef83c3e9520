"""One module per card family: generators of APDUs that collect a proof and judge nothing."""
