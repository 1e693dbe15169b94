#!/usr/bin/perl
# A hook script of Proxmox VE: puts the interfaces of a VM under Margay's policy while the VM runs. Proxmox calls it with the ID of the VM
# and the phase. In the notes of the VM, lines say what all its endpoints have, and what that of one interface has besides:
#
#   margay: --namespace shop --label role=web --profile vm
#   margay net0: --ipam auto
#
# A VM without such a line is left alone.
use strict;
use warnings;

my ($vmid, $phase) = @ARGV;
die "usage: $0 VMID PHASE\n" unless defined $phase && $vmid =~ /^\d+$/;
exit 0 unless $phase eq 'pre-start' || $phase eq 'post-stop';

open(my $qm, '-|', 'qm', 'config', $vmid, '--current') or die "margay: qm config $vmid: $!\n";
my ($notes, %macs) = ('');
while (<$qm>) {
    $notes = $1 if /^description: (.*)$/;
    # net0: virtio=BC:24:11:2E:C4:01,bridge=vmbr0,firewall=1,tag=20
    $macs{$1} = $2 if /^net(\d+): [\w-]+=([0-9A-Fa-f:]{17})/;
}
close($qm) or die "margay: qm config $vmid failed\n";
$notes =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;

my %flags;    # by the name of the interface; those for all of them under an empty name
while ($notes =~ /^margay(?: (net\d+))?:(.*)$/mg) {
    push @{$flags{$1 // ''}}, split ' ', $2;
}
exit 0 unless %flags;

# People who may write notes must not choose another datastore, node or endpoint.
my $allowed = qr/^--(namespace|label|profile|address|ipam|pool|count|ipv6-count)(=.*)?$/;
my %values;
for my $name (keys %flags) {
    my @words = @{$flags{$name}};
    while (defined(my $word = shift @words)) {
        die "margay: the notes of VM $vmid have \"$word\": want --namespace, --label, --profile, --address, --ipam, --pool, --count or --ipv6-count\n"
            unless $word =~ $allowed;
        my $flag = $1;
        my $value = defined $2 ? substr($2, 1) : shift @words;
        die "margay: the notes of VM $vmid have --$flag without a value\n" unless defined $value;
        die "margay: the notes of VM $vmid have --namespace for one interface: write it after margay:\n" if $flag eq 'namespace' && $name;
        push @{$values{$name}}, "--$flag=$value";
    }
}
my ($namespace) = map { /^--namespace=(.*)/ ? $1 : () } @{$values{''} // []};

my @remove = ('margayctl', 'workload', 'remove', "vm$vmid", '--skip-not-exists', '--namespace', $namespace // 'default');
if ($phase eq 'post-stop') {
    exec @remove or die "margay: margayctl: $!\n";
}
# The tap of net0 is tap100i0, with Proxmox's firewall and without. The endpoint exists before it.
for my $n (sort { $a <=> $b } keys %macs) {
    next if system('margayctl', 'workload', 'add', "vm$vmid", '--orchestrator', 'proxmox', '--interface', "tap${vmid}i$n",
        '--endpoint', "net$n", '--mac', $macs{$n}, @{$values{''} // []}, @{$values{"net$n"} // []}) == 0;
    system(@remove);
    die "margay: VM $vmid does not start, because the endpoint of net$n could not be made\n";
}
