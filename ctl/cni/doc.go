// Package cni is the CNI plugin margay-cni (https://www.cni.dev/docs/spec/, version 1.1): it connects containers of podman, containerd
// or Nomad to this host as routed workloads, without Kubernetes. margayctl is the plugin when it is called by the name margay-cni.
//
//	conf.go     the network configuration
//	plugin.go   ADD, DEL, CHECK, GC, STATUS
//	endpoint.go the WorkloadEndpoint of a container's interface
//	plug.go     the interface itself
//	install.go  margayctl cni install
package cni
