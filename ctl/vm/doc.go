// Package vm is the command margayctl vm: it makes and removes the WorkloadEndpoints of libvirt's domains, by hand or as libvirt's hook.
//
// domain.go reads the interfaces of a domain's XML, metadata.go what the operator wrote about them into its <metadata>. endpoints.go makes
// endpoints of both; package ctl/workload writes them. hook.go decides what libvirt's hook does at each step of a domain's life, and
// whether the domain may start.
package vm
