package api

// HandlePrefix begins the IPAM handles of the addresses of WorkloadEndpoints that agents keep records for.
const HandlePrefix = "margay."
