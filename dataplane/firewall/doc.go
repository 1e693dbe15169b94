// Package firewall looks at the firewalls of others on this host: do they drop what policy allows to be forwarded?
//
// A packet must be accepted by every chain at the forward hook. Docker, ufw and firewalld drop there whatever they were
// not told of, and an accept in a table of ours changes nothing for theirs.
//
// Read finds their chains that drop by default: those of nftables, and those of iptables in both its variants. A chain of
// iptables is shared by convention, and Accept puts one rule into it, as Calico does. Chains of nftables belong to
// whoever made them, and are only named.
package firewall
