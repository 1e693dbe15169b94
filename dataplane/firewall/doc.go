// Package firewall finds firewalls of other programs on this host that drop forwarded packets by default.
//
// Every chain at the forward hook must accept a packet. Docker, ufw and firewalld drop there what they do not know, and an accept
// in a table of ours does not change that.
//
// Read finds their chains that drop by default: those of nftables, and those of iptables in both its variants. A chain of
// iptables is shared by convention, so Accept adds a rule to it, as Calico does. A chain of nftables belongs to the program that
// made it, so it is only reported.
package firewall
